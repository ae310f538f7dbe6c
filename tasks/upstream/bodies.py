"""Reading bodies that are small, whatever their sender thinks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tasks.upstream.errors import UpstreamProtocolError

if TYPE_CHECKING:
    import httpx

    from tasks.upstream.errors import Where
    from tasks.upstream.wire import Answer

MAX_ERROR = 64 * 1024
MAX_TOKEN = 1024 * 1024
MAX_LIST = 16 * 1024 * 1024  # of one page


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
    refuse_encoding(answer.response, answer.where, what)
    body = bytearray()
    for chunk in answer.chunks():
        body += chunk
        if len(body) > limit:
            raise UpstreamProtocolError(
                answer.where, f"{what} has more than {limit} bytes, which is all that is accepted"
            )
    return bytes(body)


def refuse_encoding(response: httpx.Response, where: Where, what: str) -> None:
    """Nothing is decompressed here: nobody asked for it, and a bomb is small before it is not."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UpstreamProtocolError(
            where, f"{what} came with Content-Encoding {encoding[:40]!r}, although identity was asked for"
        )


def read_object(answer: Answer, limit: int, what: str) -> dict[str, Any]:
    """A JSON object. Raises `UpstreamProtocolError`."""
    body = read_whole(answer, limit, what)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UpstreamProtocolError(answer.where, f"{what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UpstreamProtocolError(
            answer.where, f"{what} is a JSON {type(document).__name__}; expected an object"
        )
    return document
