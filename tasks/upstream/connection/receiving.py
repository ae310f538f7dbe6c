"""The body of a large blob, past httpx: into buffers that are filled before they are handed out.

Without TLS a thread receives while the caller hashes and writes. All of that lets go of the GIL, so that two
cores work on one blob. With TLS the thread would take and leave the GIL for each record of 16 KiB, which
costs more than it gains (benchmarks/NOTES.md, 2026-11-25).
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final

from tasks.upstream.connection.error_mapping import mapped
from tasks.upstream.connection.minimum_rate import MinimumRate
from tasks.upstream.errors import UpstreamError, UpstreamUnavailable

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator

    from tasks.upstream.connection.wire import Answer

_CHUNK: Final = 256 * 1024  # bytes: hashing and writing less at a time costs more (benchmarks/NOTES.md)
_BUFFERS: Final = 4  # with two, each side waits for the other at nearly every chunk
_TICK: Final = 0.25  # seconds: how long bytes stay in a buffer, and how soon a stop is noticed


def received(answer: Answer, sock: socket.socket, length: int) -> Generator[memoryview]:
    """The next `length` bytes, each piece valid until the next one; what came before an error is handed out
    before it is raised: an `UpstreamError`, or `Stopped`."""
    source = _Source(answer, sock, length)
    if not isinstance(sock, ssl.SSLSocket):
        return _Receiver(source).pieces()
    return _in_turns(source)


def _in_turns(source: _Source) -> Generator[memoryview]:
    buffer = memoryview(bytearray(_CHUNK))
    while source.left:
        if used := source.fill(buffer):
            yield buffer[:used]


class _Source:
    """`left` bytes that are still to come from a socket."""

    def __init__(self, answer: Answer, sock: socket.socket, length: int) -> None:
        self.left = length
        self._answer, self._sock = answer, sock
        self._silent = 0.0  # seconds
        self._rate = MinimumRate(answer.where, answer.options.read_timeout)
        self._broken: UpstreamError | None = None
        sock.settimeout(min(_TICK, answer.options.read_timeout))

    def fill(self, buffer: memoryview) -> int:
        """Bytes that came until the buffer was full, or a tick was over. Raises when there is none to hand
        out before."""
        self._check()
        used, most, clock = 0, min(_CHUNK, self.left), self._answer.waits.clock
        began = clock()
        try:
            with mapped(self._answer.where, self._answer.options, body=True), suppress(TimeoutError):
                while used < most and clock() - began < _TICK:
                    used += self._some(buffer[used:most])
        except UpstreamError as error:
            if not used:
                raise
            self._broken = error
        self.left -= used
        waited = clock() - began
        self._rate.waited(waited, used)
        self._silent = 0.0 if used else self._silent + waited
        return used

    def _some(self, into: memoryview) -> int:
        got = self._sock.recv_into(into)
        if not got:
            reason = "the connection was closed in the middle of the body"
            raise UpstreamUnavailable(self._answer.where, reason, at_once=True)
        return got

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken
        limit = self._answer.options.read_timeout
        if self._silent >= limit:
            raise UpstreamUnavailable(self._answer.where, f"no byte for {limit:g} s (readTimeout)")
        self._rate.check()
        self._answer.waits.check()


class _Receiver:
    """A thread that lives as long as `pieces` is read."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._wanted = True
        self._empty: SimpleQueue[memoryview | None] = SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, int] | BaseException | None] = SimpleQueue()

    def pieces(self) -> Generator[memoryview]:
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
            while self._source.left and self._wanted and (buffer := self._empty.get()):
                if used := self._source.fill(buffer):
                    self._full.put((buffer, used))
                else:
                    self._empty.put(buffer)
            self._full.put(None)
        except BaseException as error:  # noqa: BLE001 - it is for who waits for the bytes
            self._full.put(error)
