"""Reading bodies that are small, whatever their sender thinks."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final

from tasks.upstream.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tasks.upstream.connection.wire import Answer
    from tasks.upstream.errors import Where

MAX_ERROR = 64 * 1024
MAX_TOKEN = 1024 * 1024
MAX_LIST = 16 * 1024 * 1024  # of one page
GZIP: Final = frozenset({"gzip", "x-gzip"})
_PIECE: Final = 256 * 1024  # bytes
# Compressed bytes that may come for each unpacked one, and before the first: a header or empty blocks can be
# endless, and unpack to nothing that a limit would count. Flushing after every byte makes some 7.
_MAX_OVERHEAD: Final = 10
_MAX_START: Final = 1024 * 1024


def read_head(answer: Answer, limit: int) -> bytes:
    """At most `limit` bytes; the rest is left."""
    body = bytearray()
    for chunk in answer.chunks():
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def read_whole(answer: Answer, limit: int, what: str) -> bytes:
    """All of it. Raises `UpstreamProtocolError` for more than `limit` bytes (counted, not declared)."""
    body = bytearray()
    for chunk in decoded(answer, what):
        body += chunk
        if len(body) > limit:
            raise UpstreamProtocolError(
                answer.where, f"{what} has more than {limit} bytes, which is the limit"
            )
    return bytes(body)


def decoded(answer: Answer, what: str) -> Iterator[bytes]:
    """The body without a gzip encoding (RFC 9110 section 8.4.1.3), which some proxies add unasked.

    In pieces of bounded size, so that who counts them meets no bomb. Raises `UpstreamProtocolError` for other
    encodings.
    """
    encoding = encoding_of(answer)
    if encoding in GZIP:
        return gunzipped(answer)
    if encoding:
        raise UpstreamProtocolError(
            answer.where,
            f"{what} came with Content-Encoding {encoding[:40]!r}, although identity was asked for",
        )
    return answer.chunks()


def encoding_of(answer: Answer) -> str:
    """ "" for none."""
    found = answer.headers.get("Content-Encoding", "").strip().lower()
    return "" if found == "identity" else found


def gunzipped(answer: Answer) -> Generator[bytes]:
    """The first member. What follows its end is ignored, and not read to its own end.

    Raises `UpstreamProtocolError` for what is no gzip.
    """
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    packed = unpacked = 0
    chunks = answer.chunks()
    for chunk in chunks:
        packed += len(chunk)
        data, piece = chunk, b""
        while (data or len(piece) == _PIECE) and not unpacker.eof:
            try:
                piece = unpacker.decompress(data, _PIECE)
            except zlib.error as error:
                raise UpstreamProtocolError(
                    answer.where, f"it says that its answer is gzip, and it is not: {error}"
                ) from error
            yield piece
            unpacked += len(piece)
            data = unpacker.unconsumed_tail
        if unpacker.eof:
            next(chunks, None)  # the end of the body: only then the connection can be used again
            return
        if packed > _MAX_START + _MAX_OVERHEAD * unpacked:
            raise UpstreamProtocolError(
                answer.where, f"its gzip answer is {packed} bytes so far, and unpacks to {unpacked} only"
            )
    raise UpstreamProtocolError(answer.where, "its gzip answer ends too early")


def read_object(answer: Answer, limit: int, what: str) -> dict[str, Any]:
    """A JSON object. Raises `UpstreamProtocolError`."""
    return parse_object(read_whole(answer, limit, what), what, answer.where)


def parse_object(body: bytes, what: str, where: Where) -> dict[str, Any]:
    """Raises `UpstreamProtocolError` for what is no JSON object."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UpstreamProtocolError(where, f"{what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UpstreamProtocolError(where, f"{what} is a JSON {type(document).__name__}; expected an object")
    return document
