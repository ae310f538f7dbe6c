"""Bodies of requests: whole and small, or streamed with memory for two pieces, however long they are."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from registry_server.http.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request
    from starlette.types import Message, Receive

# A thread takes so much at once: its start costs as much as hashing a fifth of this.
_PIECE_BYTES = 1024 * 1024
_DRAINED_BYTES = 8 * 1024 * 1024
_DRAIN_SECONDS = 5
_CLOSE = {"Connection": "close"}


class BodyReceiver:
    """Stands between the application and the server's `receive`, and knows when a body is over."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.over = False
        self.cut = False
        self._asked = False

    async def __call__(self) -> Message:
        self._asked = True
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.over = self.cut = True
        elif not message.get("more_body", False):
            self.over = True
        return message

    async def drain(self, *, expects_continue: bool) -> None:
        """Read what a refused request still sends: who closes on unread bytes takes the answer along.

        Not for ever: a client that goes on and on is cut off. Nor if nothing was asked of one that waits.
        """
        if expects_continue and not self._asked:
            return
        drained = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self.over and drained < _DRAINED_BYTES:
                    drained += len((await self()).get("body", b""))


async def read_whole(request: Request, *, limit: int, idle: float) -> bytes:
    """A body of up to `limit` bytes. Raises `Refused`: 413, 408, and 400 for one that broke off."""
    length = declared_length(request)
    if length is not None and length > limit:
        raise _too_large(limit)
    body = bytearray()
    while True:
        piece = await _next(request, idle)
        if piece is None:
            break
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
    _check_length(length, len(body))
    return bytes(body)


async def stream_body(
    request: Request, write: Callable[[bytearray], None], *, idle: float, limit: int | None = None
) -> int:
    """Hand a body to `write`, which runs in threads, one call at a time; returns how long it was.

    The next piece is gathered meanwhile, and not more than that: who sends faster is held back.
    Raises what `write` raises, and `Refused` as `read_whole` does.
    """
    length = declared_length(request)
    if limit is not None and length is not None and length > limit:
        raise _too_large(limit)
    writing: asyncio.Future[None] | None = None
    total = 0
    try:
        while (piece := await _gather(request, idle)) is not None:
            total += len(piece)
            if limit is not None and total > limit:
                raise _too_large(limit)
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(asyncio.to_thread(write, piece))
    finally:
        # Whatever happens: when this returns, no thread writes any more.
        if writing is not None:
            await writing
    _check_length(length, total)
    return total


def declared_length(request: Request) -> int | None:
    """Content-Length; None for a chunked body. The server has refused what is not a number."""
    text = request.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


async def _gather(request: Request, idle: float) -> bytearray | None:
    """The next piece, of some `_PIECE_BYTES`; None at the end."""
    gathered = bytearray()
    while len(gathered) < _PIECE_BYTES:
        piece = await _next(request, idle)
        if piece is None:
            break
        gathered += piece
    return gathered or None


async def _next(request: Request, idle: float) -> bytes | None:
    """What came next; None at the end. Raises `Refused`."""
    receiver: BodyReceiver = request.receive  # type: ignore[assignment]  # app.py made it
    if receiver.over and not receiver.cut:
        return None
    try:
        async with asyncio.timeout(idle):
            message = await receiver()
    except TimeoutError:
        raise Refused(
            408,
            "BLOB_UPLOAD_INVALID",
            f"no byte of the body came for {idle:g} s",
            {"Connection": "close"},
        ) from None
    if receiver.cut:
        raise _broken_off()
    piece: bytes = message.get("body", b"")
    return piece


def _check_length(declared: int | None, actual: int) -> None:
    if declared is not None and declared != actual:
        raise _broken_off()


def _broken_off() -> Refused:
    return Refused(400, "SIZE_INVALID", "the body ended early; nothing of it was kept")


def _too_large(limit: int) -> Refused:
    return Refused(413, "SIZE_INVALID", f"the body is longer than {limit} bytes, which is the limit here")


# Requests that two parsers could read differently (RFC 9112, 6.1 and 3.2): refused, whatever they ask for.
# Most of it is granian's: Content-Lengths that differ or are no numbers, broken chunks, and codings that do
# not end in `chunked` get 400 and never arrive here. Of Transfer-Encoding with Content-Length it hands on
# the first only, answers once, and closes the connection, as RFC 9112 demands: nothing behind it is ever
# read.


def check_framing(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises `Refused`."""
    hosts = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings += 1
            if value.strip().lower() != b"chunked":
                raise Refused(
                    400,
                    "UNSUPPORTED",
                    "only plain and chunked bodies are accepted, no other Transfer-Encoding",
                    _CLOSE,
                )
    if hosts > 1 or codings > 1:
        raise Refused(400, "UNSUPPORTED", "a request has one Host, and at most one Transfer-Encoding", _CLOSE)
