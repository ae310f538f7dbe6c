"""HEADs of many tags at once say what HEADs one by one say, whatever the upstream answers to one of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tasks.filter_tags.heads import ask_heads
from tasks.upstream.errors import UpstreamContentError
from tasks.upstream.redirects import MAX_REDIRECTS
from tests.support_behaviours import (
    answers,
    get_only,
    hangs,
    redirects,
    resets,
    says,
    well_behaved,
)
from tests.tasks.filter_tags.many_tags import NAME, ODD, OTHER, PATH, TAGS, opened_for, warm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from registry_server.oci.reference import Tag
    from tasks.context.mirror_run import MirrorRun
    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving


def _raw(*pieces: bytes, pause: float = 0.0) -> Behaviour:
    """Bytes as they are, and then the end of the connection."""

    def behave(exchange: Exchange) -> None:
        for piece in pieces:
            exchange.write(piece)
            time.sleep(pause)
        exchange.close()

    return behave


def _head_of(body: bytes, *, length: bool = True) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Docker-Content-Digest: {OTHER}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode()


def _with_body(exchange: Exchange) -> None:
    """A body after an answer to HEAD, which nobody may send; the connection stays."""
    exchange.write(_head_of(b"surplus") + b"surplus")


def _with_late_body(exchange: Exchange) -> None:
    exchange.write(_head_of(b"surplus"))
    time.sleep(0.05)
    exchange.write(b"surplus")


# What is told of one tag, how often it is asked for by HEAD then, and how often by GET. A connection that
# ends without an answer costs one HEAD more where it was used before.
ANSWERS: dict[str, tuple[Sequence[Behaviour], Sequence[int], int]] = {
    "well": ([well_behaved], [1], 0),
    "not there": ([answers(404)], [1], 1),
    "only GET": ([get_only(405)], [1], 1),
    "no digest": ([answers(200, b"{}", Content_Type="application/json")], [1], 1),
    "no digest of ours": ([answers(200, b"{}", Docker_Content_Digest="md5:1234")], [1], 1),
    "another digest": ([answers(200, b"{}", Docker_Content_Digest=OTHER)], [1], 0),
    "two digests": (
        [_raw(_head_of(b"").replace(b"\r\n", f"\r\nDocker-Content-Digest: {OTHER}\r\n".encode(), 1))],
        [1],
        1,
    ),
    "a web page": ([answers(200, b"", Docker_Content_Digest=OTHER, Content_Type="text/html")], [1], 0),
    "denied": ([says(403, "DENIED", "not for you")], [1], 1),
    "asked to wait": ([answers(429, Retry_After="1"), well_behaved], [2], 0),
    "asked to wait for long": ([answers(429, Retry_After="3000")], [1], 0),
    "broken": ([answers(500)], [1], 1),
    "restarts": ([answers(503, Retry_After="0"), well_behaved], [2], 0),
    "redirects": ([redirects(f"/v2/{NAME}/manifests/{TAGS[3]}")], [1], 0),
    "redirects for ever": ([redirects(PATH)], [MAX_REDIRECTS + 1], 0),
    "hangs": ([hangs], [1], 0),
    "resets once": ([resets, well_behaved], [2], 0),
    "resets always": ([resets], [4, 5, 6], 0),
    "cut in its headers": ([_raw(b"HTTP/1.1 200 OK\r\nContent-Le")], [3], 0),
    "byte by byte": ([_raw(*(bytes([each]) for each in _head_of(b"")), pause=0.001)], [1], 0),
    "too slowly": ([_raw(*(bytes([each]) for each in _head_of(b"")), pause=0.05)], [1], 0),
    "no HTTP": ([_raw(b"SSH-2.0-OpenSSH_9.2\r\n")], [4, 5, 6], 0),
    "a body": ([_with_body], [1], 0),
    "a late body": ([_with_late_body], [1], 0),
    "no length": ([_raw(_head_of(b"", length=False))], [1], 0),
    "Connection: close": ([answers(200, b"{}", Docker_Content_Digest=OTHER, Connection="close")], [1], 0),
    "long headers": ([answers(200, b"{}", Docker_Content_Digest=OTHER, X_Filler="x" * 20_000)], [1], 0),
}


def _one_by_one(run: MirrorRun) -> dict[Tag, object]:
    return dict(run.each(lambda tag: run.upstream.head(NAME, tag), TAGS))


def _said(found: dict[Tag, Any]) -> dict[Tag, str]:
    return {tag: f"{type(each).__name__}: {each}" for tag, each in found.items()}


@pytest.mark.parametrize(("behaviours", "heads", "gets"), ANSWERS.values(), ids=ANSWERS)
def test_many_at_once_say_of_each_tag_what_one_by_one_says(
    filled: Misbehaving, tmp_path: Path, behaviours: Sequence[Behaviour], heads: Sequence[int], gets: int
) -> None:
    filled.on(PATH, *behaviours)
    with opened_for(tmp_path / "a", filled) as run:
        alone = _one_by_one(run)
    filled.on(PATH, well_behaved)
    with opened_for(tmp_path / "b", filled) as run:
        warm(run, filled)
        filled.on(PATH, *behaviours)
        together = ask_heads(run, NAME, TAGS)
    assert list(together) == TAGS
    assert _said(together)[ODD] == _said(alone)[ODD]
    for tag in TAGS:
        told = {_said(together)[tag], _said(alone)[tag]}
        assert len(told) == 1 or any("asked us to wait" in each for each in told), (
            "what comes after is refused"
        )
    assert len(filled.requests("HEAD", ODD)) in heads
    assert len(filled.requests("GET", ODD)) == gets


def test_a_digest_that_is_answered_with_another_one_is_an_error_as_alone(
    filled: Misbehaving, tmp_path: Path
) -> None:
    digests = [filled.add_image(NAME, tag, (f"new {tag}".encode(),)).manifest.digest for tag in TAGS]
    filled.on(f"/v2/{NAME}/manifests/{digests[5]}", answers(200, b"{}", Docker_Content_Digest=OTHER))
    with opened_for(tmp_path, filled) as run:
        warm(run, filled)
        found = ask_heads(run, NAME, digests)
        with pytest.raises(UpstreamContentError) as alone:
            run.upstream.head(NAME, digests[5])
    assert str(found.pop(digests[5])) == str(alone.value)
    assert {digest: getattr(head, "digest", head) for digest, head in found.items()} == {
        digest: digest for digest in digests if digest != digests[5]
    }
