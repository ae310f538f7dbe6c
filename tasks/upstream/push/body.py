"""The body of a request that one thread produces while another one sends it.

A blob comes from its source in pieces that are pushed; httpx pulls a body. Between them is a short queue, so
that a blob of any size takes a few MiB of memory.
"""

from __future__ import annotations

from contextvars import copy_context
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_PIECES: Final = 8  # of some 256 KiB, as blobs are received (connection/receiving.py)
_TICK: Final = 0.1  # seconds


class SendingFailed(MirrorflowError):
    """The request ended before its body did; `error` says why. It is not the source that failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Aborted(Exception):
    """Ends the request without the rest of its body: its connection is closed."""


class SendingBody(Generic[T]):
    """`send` is called with the pieces, in a thread of its own; what it returns is the result of `finish`."""

    def __init__(self, send: Callable[[Iterator[bytes]], T], check: Callable[[], None]) -> None:
        """`check` raises when waiting is to end."""
        self._pieces: Queue[bytes | None] = Queue(_PIECES)
        self._ended = Event()
        self._aborted = False
        self._check = check
        self._result: T | None = None
        self._error: Exception | None = None
        self._thread = Thread(target=copy_context().run, args=(self._run, send), daemon=True)
        self._thread.start()

    def write(self, piece: bytes) -> None:
        """Hand on a piece. Raises `SendingFailed` once the request has ended, and what `check` raises."""
        self._put(piece)

    def finish(self) -> T:
        """Wait for the answer. Raises as `write` does."""
        if not self._ended.is_set():
            self._put(None)
        while not self._ended.wait(_TICK):
            self._check()
        if self._error is not None:
            raise SendingFailed(self._error) from self._error
        assert self._result is not None, "a request without an error has an answer"
        return self._result

    def abort(self) -> None:
        """End the request before its body is whole, so that the registry cannot take it for whole."""
        self._aborted = True
        while not self._ended.is_set():
            try:
                self._pieces.put(None, timeout=_TICK)
            except Full:
                self._drain()
            else:
                return

    def _put(self, piece: bytes | None) -> None:
        while not self._ended.is_set():
            try:
                self._pieces.put(piece, timeout=_TICK)
            except Full:
                self._check()
            else:
                return
        if self._error is not None:
            raise SendingFailed(self._error) from self._error

    def _drain(self) -> None:
        try:
            while True:
                self._pieces.get_nowait()
        except Empty:
            return

    def _run(self, send: Callable[[Iterator[bytes]], T]) -> None:
        try:
            self._result = send(self._iterate())
        except Exception as error:  # noqa: BLE001 - it is for who writes
            self._error = error
        finally:
            self._ended.set()

    def _iterate(self) -> Iterator[bytes]:
        while (piece := self._pieces.get()) is not None:
            if self._aborted:
                break
            yield piece
        if self._aborted:
            raise _Aborted
