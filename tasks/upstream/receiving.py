"""The body of a large blob, past httpx: a thread receives it while the caller hashes and writes.

Each of the three lets go of the GIL for nearly all of its time, so that two cores work on one blob.
"""

from __future__ import annotations

from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final

from tasks.upstream.border import mapped
from tasks.upstream.errors import UpstreamUnavailable

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator

    from tasks.upstream.wire import Answer

_CHUNK: Final = 256 * 1024  # bytes: hashing and writing less at a time costs more (measured: DECISIONS.md)
_BUFFERS: Final = 4  # with two, each side waits for the other at nearly every chunk
_TICK: Final = 0.25  # seconds: how long bytes stay in a buffer, and how soon a stop is noticed


class Receiver:
    """`length` bytes from the socket of `answer`, by a thread that lives as long as `pieces` is read."""

    def __init__(self, answer: Answer, sock: socket.socket, length: int) -> None:
        self._answer, self._sock, self._left = answer, sock, length
        self._silent = 0.0  # seconds
        self._wanted = True
        self._empty: SimpleQueue[memoryview | None] = SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, int] | BaseException | None] = SimpleQueue()
        sock.settimeout(min(_TICK, answer.options.read_timeout))

    def pieces(self) -> Generator[memoryview]:
        """Each is valid until the next one. What came before an error is handed out before it is raised."""
        for _ in range(_BUFFERS):
            self._empty.put(memoryview(bytearray(_CHUNK)))
        thread = Thread(target=self._receive, name="receiver of a blob", daemon=True)
        thread.start()
        found = None
        try:
            while found := self._full.get():
                if isinstance(found, BaseException):
                    raise found
                buffer, used = found
                yield buffer[:used]
                self._empty.put(buffer)
        finally:
            found = None  # an error whose traceback leads to itself would keep the buffers
            self._wanted = False
            self._empty.put(None)
            thread.join()  # the socket may be closed from here on

    def _receive(self) -> None:
        try:
            while self._left and self._wanted and (buffer := self._empty.get()):
                self._fill(buffer)
            self._full.put(None)
        except BaseException as error:  # noqa: BLE001 - it is for who waits for the bytes
            self._full.put(error)

    def _fill(self, buffer: memoryview) -> None:
        """Hand over what comes until the buffer is full or a tick is over, also if the network breaks."""
        used, most, clock = 0, min(_CHUNK, self._left), self._answer.waits.clock
        began = clock()
        try:
            with mapped(self._answer.where, self._answer.options, body=True), suppress(TimeoutError):
                while used < most and clock() - began < _TICK:
                    used += self._some(buffer[used:most])
        finally:
            self._left -= used
            self._silent = 0.0 if used else self._silent + clock() - began
            if used:
                self._full.put((buffer, used))
            else:
                self._empty.put(buffer)
        self._check()

    def _some(self, into: memoryview) -> int:
        got = self._sock.recv_into(into)
        if not got:
            reason = "the connection was closed in the middle of the body"
            raise UpstreamUnavailable(self._answer.where, reason, at_once=True)
        return got

    def _check(self) -> None:
        """Raises `UpstreamUnavailable` or `Stopped`."""
        limit = self._answer.options.read_timeout
        if self._silent >= limit:
            raise UpstreamUnavailable(self._answer.where, f"no byte for {limit:g} s (readTimeout)")
        self._answer.waits.check()
