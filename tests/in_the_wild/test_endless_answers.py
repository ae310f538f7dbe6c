"""Answers that would never end, or fill the memory."""

from __future__ import annotations

import gzip
import itertools
from typing import TYPE_CHECKING, Final, cast

import httpx
import pytest

from registry_server.oci.reference import RepositoryName, Tag
from tasks.upstream.bodies import read_whole
from tasks.upstream.errors import UpstreamProtocolError, Where
from tasks.upstream.lists import listing
from tests.support_behaviours import json_answer
from tests.tasks.upstream.clients import client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.upstream.connection.wire import Answer
    from tests.support_misbehaving import Exchange, Misbehaving

MIB: Final = 1024 * 1024
ZEROS: Final = b"\0" * 65536
NAMED: Final = b"\x1f\x8b\x08\x08" + b"\0" * 6  # a gzip header with a file name, which may have any length
EMPTY_BLOCKS: Final = b"\0\0\0\xff\xff" * 13_000


class GzipAnswer:
    """`start`, then `rest` again and again. `sent` counts the bytes that were read of it."""

    headers = httpx.Headers({"Content-Encoding": "gzip"})
    where = Where("registry.example")

    def __init__(self, start: bytes, rest: bytes) -> None:
        self._start, self._rest = start, rest
        self.sent = 0

    def chunks(self) -> Iterator[bytes]:
        for chunk in itertools.chain([self._start], itertools.repeat(self._rest)):
            self.sent += len(chunk)
            assert self.sent < 16 * MIB, "it is read for ever"
            yield chunk


@pytest.mark.parametrize(
    "rest", [ZEROS, gzip.compress(b"more"), b""], ids=["padding", "another member", "nothing"]
)
def test_what_follows_the_end_of_a_gzip_answer_is_not_read(rest: bytes) -> None:
    answer = GzipAnswer(gzip.compress(b"{}") + rest, rest or ZEROS)
    assert read_whole(cast("Answer", answer), 4 * MIB, "the manifest") == b"{}"
    assert answer.sent < 3 * len(ZEROS)


@pytest.mark.parametrize(
    ("start", "rest"),
    [(NAMED, b"a" * 65536), (gzip.compress(b"")[:10], EMPTY_BLOCKS)],
    ids=["a header without an end", "empty blocks"],
)
def test_a_gzip_answer_that_unpacks_to_nothing_is_an_error(start: bytes, rest: bytes) -> None:
    answer = GzipAnswer(start, rest)
    with pytest.raises(UpstreamProtocolError, match="unpacks to 0 only"):
        read_whole(cast("Answer", answer), 4 * MIB, "the manifest")


def test_all_pages_of_a_list_share_one_limit_of_bytes(
    upstream: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page is within the limit of a page, and has a new name in it."""

    def behave(exchange: Exchange) -> None:
        page = int(exchange.seen.query.get("page", ["0"])[0])
        tags = [f"v{page}", *["w" * 100] * 1000]
        json_answer({"tags": tags}, Link=f"</v2/a/tags/list?page={page + 1}>; rel=next")(exchange)

    upstream.on("/v2/a/tags/list", behave)
    monkeypatch.setattr(listing, "MAX_BYTES", 1024 * 1024)
    with client(upstream) as registry, pytest.raises(UpstreamProtocolError, match="more than 1048576 bytes"):
        registry.tags("a")
    assert len(upstream.seen) == 11


@pytest.mark.parametrize("endpoint", ["tags", "repositories"])
def test_a_name_that_is_too_long_is_cut_and_stays_invalid(upstream: Misbehaving, endpoint: str) -> None:
    names = ["a", "b" * 255, "c" * 256, "d" * MIB]
    document = json_answer({endpoint: names})
    upstream.on("/v2/a/tags/list", document)
    upstream.on("/v2/_catalog", document)
    with client(upstream) as registry:
        found = registry.tags("a") if endpoint == "tags" else list(registry.repositories())
    assert found == ["a", "b" * 255, "c" * 255 + "…", "d" * 255 + "…"]
    assert not any(RepositoryName.is_valid(name) or Tag.is_valid(name) for name in found[2:])
