"""What the steps raise: said in one sentence, retried only where that can help, and fit to be pickled."""

from __future__ import annotations

import pickle

import pytest

from registry_server.oci.descriptor import Platform
from registry_server.oci.errors import ManifestInvalid, MirrorflowError
from registry_server.store.errors import StoreFull, StoreLocked, WaitCancelled
from tasks.run.errors import (
    BlobNotCopied,
    CompanionNotCopied,
    NoPlatform,
    NotWanted,
    StepFailed,
    Unexpected,
    WrongContent,
    is_retryable,
    is_stop,
)
from tasks.upstream.errors import Stopped, UpstreamDenied, UpstreamLimited, UpstreamUnavailable, Where
from tests.tasks.things import blob

WHERE = Where("registry1:5000", "library/nginx", "1.25")
BUSY = UpstreamUnavailable(WHERE, "503 Service Unavailable", 503)
DENIED = UpstreamDenied(WHERE, "403 Forbidden", 403)
BLOB = blob("x", 1234)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (BUSY, True),
        (UpstreamLimited(WHERE, "429 Too Many Requests", 429), True),
        (StoreLocked("another writer has it"), True),
        (DENIED, False),
        (WrongContent(WHERE, "another digest"), False),
        (ManifestInvalid("not a manifest"), False),
        (StoreFull("the store is full"), False),
        (BlobNotCopied(BLOB, BUSY), False),
        (NotWanted("no"), False),
        (Unexpected(ValueError("bug")), False),
        (ValueError("somebody else's"), False),
        (Stopped(), False),
        (StepFailed({"a": DENIED, "b": BUSY}, of=9), True),
        (StepFailed({"a": DENIED}, of=9), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_only_what_may_end_differently_is_tried_again(error: Exception, retryable: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_retryable(error) is retryable


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StepFailed({"a:1": DENIED}, of=1), "a:1: registry1:5000: library/nginx:1.25: 403 Forbidden"),
        (
            StepFailed({"a:1": BUSY, "b:1": DENIED}, of=7),
            (
                "2 of 7 failed: a:1: registry1:5000: library/nginx:1.25: 503 Service Unavailable; "
                "b:1: registry1:5000: library/nginx:1.25: 403 Forbidden"
            ),
        ),
        (
            StepFailed({str(number): NotWanted("no") for number in range(5)}, of=5),
            "5 of 5 failed: 0: no; 1: no; 2: no; and 2 more",
        ),
        (BlobNotCopied(BLOB, None), f"the blob {BLOB.digest.short} (1,234 bytes) is not here"),
        (
            BlobNotCopied(BLOB, DENIED),
            (
                f"the blob {BLOB.digest.short} (1,234 bytes) is not here: "
                "registry1:5000: library/nginx:1.25: 403 Forbidden"
            ),
        ),
        (WrongContent(WHERE, "another digest"), "registry1:5000: library/nginx:1.25: another digest"),
        (
            NoPlatform([Platform("linux", "s390x"), Platform(architecture="riscv64")]),
            "has none of the wanted platforms: linux/s390x, riscv64",
        ),
        (
            Unexpected(ValueError("bug")),
            "unexpected ValueError: bug (a bug in mirrorflow; please report it)",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_one_sentence_also_after_prefect_has_pickled_it(
    error: MirrorflowError, words: str
) -> None:
    assert str(error) == words
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is type(error)
    assert str(again) == words


@pytest.mark.parametrize(
    ("error", "stopped"),
    [
        pytest.param(Stopped(), True, id="stopped"),
        pytest.param(WaitCancelled("cancelled while another writer was filling it"), True, id="waited"),
        pytest.param(BUSY, False, id="the upstream"),
        pytest.param(StepFailed({"a": Stopped(), "b": Stopped()}, of=3), True, id="all that did not pass"),
        pytest.param(StepFailed({"a": Stopped(), "b": BUSY}, of=3), False, id="one failed before"),
        pytest.param(BlobNotCopied(BLOB, Stopped()), True, id="a blob that was on its way"),
        pytest.param(BlobNotCopied(BLOB, None), False, id="a blob that nobody has"),
        pytest.param(CompanionNotCopied("a signature", Stopped()), True, id="a companion"),
    ],
)
def test_to_be_stopped_is_nobodys_failure(error: MirrorflowError, *, stopped: bool) -> None:
    assert is_stop(error) is stopped
