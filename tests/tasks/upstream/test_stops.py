"""Being asked to stop, in the middle of anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.errors import MirrorflowError
from tasks.upstream.errors import (
    Stopped,
    UpstreamError,
)
from tests.support_behaviours import answers, hangs_in_body
from tests.tasks.upstream.clients import FakeTime, client
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
TAG = f"/v2/{NAME}/manifests/1.25"
BIG = b"0123456789abcdef" * 4 * 65536 * 2 + b"end"  # 8 MiB and a bit: the fast path
SHORT: dict[str, Any] = {"response_header_timeout": 0.2, "read_timeout": 0.2, "connect_timeout": 0.2}


class _After:
    """True from the n-th look on."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_stop_is_noticed_between_two_chunks(upstream: Misbehaving) -> None:
    blob = upstream.add_blob(NAME, BIG)
    sink = MemorySink()
    with client(upstream, cancelled=_After(10)) as registry, pytest.raises(Stopped):
        registry.blob(NAME, blob, sink)
    assert 0 < len(sink.content) < len(BIG)


def test_a_stop_is_noticed_while_a_big_blob_does_not_come(upstream: Misbehaving) -> None:
    blob = upstream.add_blob(NAME, BIG)
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", hangs_in_body(BIG, at=1000))
    with client(upstream, cancelled=_After(5)) as registry, pytest.raises(Stopped):
        registry.blob(NAME, blob, MemorySink())


def test_a_stop_is_noticed_in_a_wait(upstream: Misbehaving) -> None:
    upstream.on(TAG, answers(429, Retry_After="30"))
    time = FakeTime()
    with client(upstream, cancelled=lambda: time.slept > 1, time=time) as registry, pytest.raises(Stopped):
        registry.head(NAME, "1.25")
    assert time.slept < 2


def test_a_stop_is_no_error_of_the_upstream() -> None:
    assert issubclass(Stopped, MirrorflowError)
    assert not issubclass(Stopped, UpstreamError)
    assert not Stopped.retryable
