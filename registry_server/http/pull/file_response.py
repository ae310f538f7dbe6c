"""The one loop that sends files: whole blobs and ranges of them, also of files that still grow.

Chunks are read in the event loop as long as they are in the page cache, and in a thread otherwise: that is
faster than sendfile through ASGI, and one cold disk does not hold up the other clients.
"""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from starlette.responses import Response

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import Receive, Scope, Send

# Granian buffers some 8 messages a connection: memory is clients times 8 times this.
CHUNK_BYTES = 256 * 1024
_BREATHE_EVERY = 4  # chunks
_JUST_WRITTEN = 64 * 1024 * 1024  # bytes: that far behind the writer of a file, all is in the page cache
_NO_WAIT = getattr(os, "RWF_NOWAIT", None)  # Linux


class FileTruncated(MirrorflowError):
    """A file of the pool is shorter than it was when it was announced."""

    def __init__(self, position: int, stop: int) -> None:
        super().__init__(f"the file ends at byte {position} instead of {stop}: it is damaged on disk")


class FileRangeResponse(Response):
    """Sends the bytes at `positions` of the open file `fd`, and closes it.

    A file that turns out too short raises `FileTruncated` in the middle: with a Content-Length that is the
    only thing that makes the server break the connection instead of ending it as if all were well.
    """

    def __init__(self, fd: int, positions: range, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status, headers={**headers, "Content-Length": str(len(positions))})
        self._fd = fd
        self._positions = positions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            if len(self._positions) <= CHUNK_BYTES:
                # Over before a listener would have run.
                await send_file(self._fd, self._positions, send, asyncio.Event())
                return
            async with watch_disconnect(receive) as gone:
                await send_file(self._fd, self._positions, send, gone)
        finally:
            os.close(self._fd)


class GrowingFile(Protocol):
    """A file that is still being written."""

    async def reach(self, position: int) -> int:
        """Wait until there is more than `position`, and say up to where; `position` itself when the client
        is gone."""
        ...

    def read(self, size: int, position: int) -> bytes:
        """Up to `size` bytes. None do not mean the end: a network file system may show the size earlier than
        the content."""
        ...

    async def await_content(self, position: int) -> None:
        """After a read that gave nothing: wait before the next one. Raises when nothing can come."""
        ...


async def send_file(
    fd: int,
    positions: range,
    send: Send,
    gone: asyncio.Event,
    growing: GrowingFile | None = None,
) -> None:
    """Send the body. `growing`: the file `fd`, where it is still being written."""
    position, stop, chunks = positions.start, positions.stop, 0
    until = stop if growing is None else position
    while True:
        if growing is not None and position >= until:
            until = min(stop, await growing.reach(position))
        size = min(CHUNK_BYTES, until - position)
        if growing is not None and until - position <= _JUST_WRITTEN:
            chunk: bytes | bytearray = growing.read(size, position)  # no buffer to fill with zeros before
        else:
            chunk = await _read(fd, position, size, grows=growing is not None)
        position += len(chunk)
        if gone.is_set():
            return
        if not chunk and position < stop:
            if growing is None:
                raise FileTruncated(position, stop)
            await growing.await_content(position)
            continue
        await send({"type": "http.response.body", "body": chunk, "more_body": position < stop})
        chunks += 1
        if chunks % _BREATHE_EVERY == 0:
            # To a client that left, send() returns without ever yielding: let the listener run.
            await asyncio.sleep(0)
        if position >= stop:
            return


async def _read(fd: int, position: int, size: int, *, grows: bool) -> bytes | bytearray:
    """Up to `size` bytes; fewer do not mean the end of the file, none do. `grows`: it was written lately."""
    buffer = bytearray(size)  # a new one each time: the server keeps a reference until it is sent
    try:
        if _NO_WAIT is None:
            raise BlockingIOError
        got = os.preadv(fd, [buffer], position, _NO_WAIT)
    except OSError as error:
        # Not in the page cache (EAGAIN), or a file system without RWF_NOWAIT (EOPNOTSUPP; memory is one).
        if grows and error.errno == errno.EOPNOTSUPP:
            return os.pread(fd, size, position)
        got = await asyncio.to_thread(os.preadv, fd, [buffer], position)
    del buffer[got:]
    return buffer


@asynccontextmanager
async def watch_disconnect(receive: Receive) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the client goes away: sending does not tell."""
    gone = asyncio.Event()
    listener = asyncio.create_task(_listen(receive, gone))
    try:
        yield gone
    finally:
        listener.cancel()


async def _listen(receive: Receive, gone: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()
