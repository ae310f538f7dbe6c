"""Blobs that come in another way than they should: what came is kept, the rest is asked for."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from tasks.upstream.errors import (
    UpstreamContentError,
    UpstreamNotFound,
    UpstreamProtocolError,
    UpstreamUnavailable,
)
from tests.support_behaviours import answers, endless, hangs_in_body, reset_in_body, truncated
from tests.support_misbehaving import well_behaved
from tests.tasks.upstream.clients import RealTime, client
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

NAME = "library/nginx"
TAG = f"/v2/{NAME}/manifests/1.25"
BIG = b"0123456789abcdef" * 4 * 65536 * 2 + b"end"  # 8 MiB and a bit: the fast path
SHORT: dict[str, Any] = {"response_header_timeout": 0.2, "read_timeout": 0.2, "connect_timeout": 0.2}


@pytest.mark.parametrize("content", [BIG[:5000], BIG], ids=["small", "fast path"])
def test_a_blob_that_stops_coming_is_given_up_and_what_came_is_kept(
    upstream: Misbehaving, content: bytes
) -> None:
    blob = upstream.add_blob(NAME, content)
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", hangs_in_body(content, at=4000))
    sink = MemorySink()
    with (
        client(upstream, time=RealTime(), **SHORT) as registry,
        pytest.raises(UpstreamUnavailable, match=r"no byte for 0\.2 s"),
    ):
        registry.blob(NAME, blob, sink)
    assert sink.content == content[:4000]


@pytest.mark.parametrize("content", [BIG[:50_000], BIG], ids=["small", "fast path"])
@pytest.mark.parametrize("broken", [truncated, reset_in_body], ids=["closed", "reset"])
def test_a_blob_that_breaks_off_goes_on_where_it_was(
    upstream: Misbehaving, content: bytes, broken: Callable[[bytes, int], Behaviour]
) -> None:
    blob = upstream.add_blob(NAME, content)
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", broken(content, 40_000), well_behaved)
    sink = MemorySink()
    with client(upstream) as registry:
        moved = registry.blob(NAME, blob, sink)
    assert sink.content == content
    assert sink.restarts == 0
    asked = upstream.seen[1].headers.get("range", "bytes=0-")
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    assert start == 40_000 or (broken is reset_in_body and start < 40_000), "a reset takes bytes along"
    assert moved == len(content)


def test_a_blob_that_breaks_off_again_and_again_is_left_to_the_profile(upstream: Misbehaving) -> None:
    content = BIG[:100_000]
    blob = upstream.add_blob(NAME, content)

    def one_byte(exchange: Exchange) -> None:
        start = int(exchange.seen.headers.get("range", "bytes=0-")[6:-1])
        headers = {
            "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}",
            "Content-Length": str(len(content) - start),
        }
        exchange.answer(206 if start else 200, content[start : start + 1], headers)
        exchange.close()

    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", one_byte)
    sink = MemorySink()
    with client(upstream) as registry, pytest.raises(UpstreamUnavailable, match="broke in the middle"):
        registry.blob(NAME, blob, sink)
    assert len(upstream.seen) == len(sink.content) == 10


def _ranged(status: int, content: bytes, **headers: str) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        (answers(status, content, **headers) if "range" in exchange.seen.headers else well_behaved)(exchange)

    return behave


@pytest.mark.parametrize(
    "behaviour",
    [
        _ranged(200, b"0123456789"),
        _ranged(206, b"56789"),
        _ranged(206, b"3456789", Content_Range="bytes 3-9/10"),
        _ranged(206, b"56789", Content_Range="bytes 5-9/11"),
        _ranged(206, b"56789", Content_Range="items 5-9/10"),
        _ranged(416, b""),
    ],
    ids=["ignored", "no Content-Range", "another start", "another size", "another unit", "416"],
)
def test_a_range_that_is_not_what_was_asked_for_starts_again(
    upstream: Misbehaving, behaviour: Behaviour
) -> None:
    blob = upstream.add_blob(NAME, b"0123456789")
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", behaviour)
    sink = MemorySink(b"01234")
    with client(upstream) as registry:
        assert registry.blob(NAME, blob, sink) == 10
    assert sink.content == b"0123456789"
    assert sink.restarts == 1


def test_a_range_that_comes_in_pieces_is_put_together(upstream: Misbehaving) -> None:
    blob = upstream.add_blob(NAME, b"0123456789")
    upstream.on(
        f"/v2/{NAME}/blobs/{blob.digest}",
        answers(206, b"56", Content_Range="bytes 5-6/10"),
        answers(206, b"789", Content_Range="bytes 7-9/10"),
    )
    sink = MemorySink(b"01234")
    with client(upstream) as registry:
        registry.blob(NAME, blob, sink)
    assert sink.content == b"0123456789"


@pytest.mark.parametrize(
    "behaviour",
    [
        answers(206, b"", Content_Range="bytes 5-9/10"),
        answers(206, b"01234", Content_Range="bytes 0-4/9"),
    ],
    ids=["empty", "206 whatever is asked"],
)
def test_an_upstream_that_never_gets_on_with_a_range_is_given_up(
    upstream: Misbehaving, behaviour: Behaviour
) -> None:
    blob = upstream.add_blob(NAME, b"0123456789")
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", behaviour)
    with client(upstream) as registry, pytest.raises(UpstreamProtocolError):
        registry.blob(NAME, blob, MemorySink(b"01234"))
    assert len(upstream.seen) <= 2


@pytest.mark.parametrize(
    ("behaviour", "written"),
    [
        (answers(200, b"012345678"), b""),
        (answers(200, b"0123456789x"), b""),
        (answers(200, b"012345678", Content_Length="", Connection="close"), b"012345678"),
        (endless(Content_Length=""), b""),
        (answers(200, gzip.compress(b"0" * 11), Content_Encoding="gzip"), b""),
    ],
    ids=["short", "long", "short without length", "endless", "gzip"],
)
def test_a_blob_of_another_size_is_cut_off_as_soon_as_that_shows(
    upstream: Misbehaving, behaviour: Behaviour, written: bytes
) -> None:
    blob = upstream.add_blob(NAME, b"0123456789")

    def behave(exchange: Exchange) -> None:
        behaviour(exchange)
        exchange.close()

    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", behave)
    sink = MemorySink()
    with (
        client(upstream) as registry,
        pytest.raises(UpstreamContentError, match="expected 10 bytes") as caught,
    ):
        registry.blob(NAME, blob, sink)
    assert sink.content == written
    assert f"{NAME}@{blob.digest}" in str(caught.value)


def test_bytes_labelled_gzip_are_taken_as_they_are(upstream: Misbehaving) -> None:
    """Object stores label layers so; the bytes are the layer's nevertheless."""
    content = gzip.compress(b"layer")
    blob = upstream.add_blob(NAME, content)
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", answers(200, content, Content_Encoding="gzip"))
    sink = MemorySink()
    with client(upstream) as registry:
        registry.blob(NAME, blob, sink)
    assert sink.content == content


def test_an_error_of_the_sink_is_not_blamed_on_upstream(upstream: Misbehaving) -> None:
    class Full(MemorySink):
        def write(self, data: bytes | bytearray | memoryview) -> None:  # noqa: ARG002 - the protocol
            raise OSError(28, "No space left on device")

    blob = upstream.add_blob(NAME, BIG)
    with client(upstream) as registry:
        with pytest.raises(OSError, match="No space left"):
            registry.blob(NAME, blob, Full())
        assert registry.blob(NAME, blob, MemorySink()) == len(BIG), "the client is as good as new"
    assert len(upstream.seen) == 2


def _empty_parts(content: bytes) -> Behaviour:
    """Ten bytes and a reset, then a part that begins elsewhere, then parts without a byte."""

    def behave(exchange: Exchange) -> None:
        asked = len(exchange.upstream.requests(path="/blobs/"))
        if asked == 1:
            reset_in_body(content, 10)(exchange)
        else:
            start = 5 if asked == 2 else 0
            where = f"bytes {start}-{len(content) - 1}/{len(content)}"
            answers(206, b"", Content_Range=where)(exchange)

    return behave


def _ten_at_a_time(content: bytes) -> Behaviour:
    """Parts of ten bytes from the beginning, whatever was asked for."""
    return answers(206, content[:10], Content_Range=f"bytes 0-9/{len(content)}")


@pytest.mark.parametrize("hostile", [_empty_parts, _ten_at_a_time])
def test_an_upstream_cannot_make_a_blob_last_for_ever(
    upstream: Misbehaving, hostile: Callable[[bytes], Behaviour]
) -> None:
    content = b"0123456789" * 100
    blob = upstream.add_blob(NAME, content)
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", hostile(content))
    with client(upstream) as registry, pytest.raises(UpstreamProtocolError, match=r"not the whole blob|206"):
        registry.blob(NAME, blob, MemorySink())
    assert len(upstream.seen) < 10


def test_an_address_in_a_descriptor_is_asked_only_where_foreign_layers_are_wanted(
    upstream: Misbehaving,
) -> None:
    """A signature has layers as well, and whoever may push writes them."""
    content = b"a layer"
    upstream.add_blob(NAME, b"the repository is there")
    upstream.on("/secret", answers(200, content))
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    address = f"http://{upstream.host}/secret"
    layer = Descriptor(foreign, Digest.of(content), len(content), urls=(address,))
    sink = MemorySink()
    with client(upstream) as registry:
        with pytest.raises(UpstreamNotFound):
            registry.blob(NAME, layer, sink)
        assert upstream.requests(path="/secret") == []
        registry.blob(NAME, layer, sink, foreign=True)
    assert sink.content == content
