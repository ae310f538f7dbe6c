"""Handing out a blob while it arrives: to any number of clients, late joiners and ranges included.

The last byte of an answer is held back until the writer has verified the whole blob (invariant 2): a wrong
digest, like a writer that dies, is an answer that breaks off, and never one that ends well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from asyncinotify import Inotify, Mask
from starlette.responses import Response

from registry_server.http.pull.file_response import FileTruncated, send_file, watch_disconnect
from registry_server.store.spool.incoming_reader import IncomingAborted, IncomingReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from asyncinotify import Event, Watch
    from starlette.types import Receive, Scope, Send

_log = logging.getLogger("registry_server")
# Between two looks when nothing wakes us: a file system of another host, a writer that was killed.
_TICK = 0.2  # seconds
# Between two rounds of waking: each write of a writer would be one, and the kernel makes one event of many.
_PAUSE = 0.005  # seconds
# How long the content of a finished file may be missing: a network file system shows sizes before content.
_LAG = 3.0  # seconds


class IncomingBlobResponse(Response):
    """Sends the bytes at `positions` of a blob that arrives in `file`, and closes that.

    Raises `IncomingAborted` or `FileTruncated` in the middle, which makes the server break the connection.
    `lag`: seconds that the content of a finished file may be behind its size.
    """

    def __init__(
        self,
        file: IncomingReader,
        positions: range,
        status: int,
        headers: Mapping[str, str],
        *,
        lag: float = _LAG,
    ) -> None:
        super().__init__(status_code=status, headers={**headers, "Content-Length": str(len(positions))})
        self._file = file
        self._positions = positions
        self._lag = lag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async with watch_disconnect(receive) as gone, _hub().watching(self._file) as changed:
                follower = _Follower(self._file, self._positions.stop, changed, gone, self._lag)
                await send_file(self._file.fd, self._positions, send, gone, follower)
        finally:
            self._file.close()


async def wait_for_start(file: IncomingReader, positions: range) -> None:
    """Until the first of `positions` can be sent: before that, a failure can still be a proper answer.

    Raises `IncomingAborted`.
    """
    async with _hub().watching(file) as changed:
        await _Follower(file, positions.stop, changed, asyncio.Event()).reach(positions.start)


class _Follower:
    def __init__(
        self,
        file: IncomingReader,
        stop: int,
        changed: asyncio.Event,
        gone: asyncio.Event,
        lag: float = _LAG,
    ) -> None:
        self._file, self._stop, self._lag = file, stop, lag
        self._changed, self._gone = changed, gone
        self._waiting = (-1, 0.0)  # at which position for content, and until when

    async def reach(self, position: int) -> int:
        """Up to where may be sent: beyond `position`, unless the client is gone. Raises `IncomingAborted`."""
        while not self._gone.is_set():
            self._changed.clear()  # before the look: what changes after it wakes us
            until = self._look(position)
            if until is not None:
                return until
            if not await self._woken():
                self._check_writer(position)
        return position

    def read(self, size: int, position: int) -> bytes:
        return self._file.read(size, position)

    async def await_content(self, position: int) -> None:
        """Until something happens: for as long as the writer writes, and for `lag` seconds after it.

        Raises `IncomingAborted`, or `FileTruncated` for a verified file.
        """
        self._look(position)
        if self._file.is_being_written() or self._waiting[0] != position:
            self._waiting = (position, time.monotonic() + self._lag)
        elif time.monotonic() >= self._waiting[1]:
            if self._file.state().verified:
                raise FileTruncated(position, self._stop)
            raise IncomingAborted(f"the writer of the incoming blob ended after {position} bytes")
        self._changed.clear()
        await self._woken()

    def _look(self, position: int) -> int | None:
        state = self._file.state()
        if state.verified:
            return self._stop
        if not state.named or state.size < position:
            raise IncomingAborted("the incoming blob was discarded: its bytes do not match its digest")
        until = min(state.size, self._stop - 1)
        return until if until > position else None

    async def _woken(self) -> bool:
        """False when nothing has happened for a tick."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_TICK):
                await self._changed.wait()
                return True
        return False

    def _check_writer(self, position: int) -> None:
        if self._file.is_being_written():
            return
        # It may have finished between our look and the question for the lock.
        if self._look(position) is None and not self._file.state().verified:
            raise IncomingAborted(f"the writer of the incoming blob ended after {position} bytes")


class _InotifyHub:
    """One inotify for all followers of a process, by the file that they follow."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, set[asyncio.Event]] = {}  # by watch descriptor

    @asynccontextmanager
    async def watching(self, file: IncomingReader) -> AsyncIterator[asyncio.Event]:
        """An event that is set when the file grows or its mode changes."""
        changed = asyncio.Event()
        inotify = self._open()
        watch = None if inotify is None else _watch(inotify, file)
        if inotify is None or watch is None:  # the tick has to do
            yield changed
            return
        waiting = self._waiting.setdefault(watch.wd, set())
        waiting.add(changed)
        try:
            yield changed
        finally:
            waiting.discard(changed)
            if not waiting:
                self._waiting.pop(watch.wd, None)
                with suppress(OSError):  # the file is gone, and the watch with it
                    inotify.rm_watch(watch)

    def _open(self) -> Inotify | None:
        if self._inotify is None or self._reader is None or self._reader.done():
            try:
                self._inotify = Inotify(sync_timeout=0)
            except OSError as error:
                _log.warning("inotify is not available, polling incoming blobs instead: %s", error)
                return None
            self._reader = asyncio.create_task(self._read(self._inotify))
            self._waiting = {}
        return self._inotify

    async def _read(self, inotify: Inotify) -> None:
        while True:
            self._tell(await inotify.get())
            for event in inotify:  # whatever else has happened until now
                self._tell(event)
            await asyncio.sleep(_PAUSE)

    def _tell(self, event: Event) -> None:
        if event.watch is None:  # the queue ran over: everybody looks
            told = [each for waiting in self._waiting.values() for each in waiting]
        else:
            told = list(self._waiting.get(event.watch.wd, ()))
        for changed in told:
            changed.set()


def _watch(inotify: Inotify, file: IncomingReader) -> Watch | None:
    try:
        # By descriptor: the file may have moved into the pool meanwhile.
        return inotify.add_watch(f"/proc/self/fd/{file.fd}", Mask.MODIFY | Mask.ATTRIB)
    except OSError as error:
        _log.warning("inotify is not available, polling an incoming blob instead: %s", error)
        return None


_hubs: dict[asyncio.AbstractEventLoop, _InotifyHub] = {}


def _hub() -> _InotifyHub:
    loop = asyncio.get_running_loop()
    return _hubs.setdefault(loop, _InotifyHub())
