"""How much of one host we use at a time: slots, request rate, and pauses that the host asks for."""

from __future__ import annotations

from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.upstream.connection.waits import Waits

# After a 429 everybody at once is what brought the 429: requests go out one by one, with this many
# seconds between them, doubled by each further 429 and shrunk by each good answer.
MAX_WAIT = 60.0  # seconds of Retry-After that are waited; for longer ones the profile has `retryDelay`
_LONGEST_CLOSED = 3600.0  # seconds that a host is believed that it is not to be asked
_PAUSE = 1.0  # seconds that a 429 without a hint stops everybody
_FIRST_GAP, _LONGEST_GAP, _SHRINK, _NO_GAP = 0.05, 5.0, 0.8, 0.005


class HostLimits:
    """Shared by all threads that talk to one host."""

    def __init__(self, waits: Waits, *, concurrent: int, per_second: float | None = None) -> None:
        self._waits = waits
        self._slots = BoundedSemaphore(concurrent)
        # A slot stays free for small requests, or a poll would queue behind a gigabyte.
        self._bulk = BoundedSemaphore(concurrent - 1 if concurrent > 2 else concurrent)
        self._interval = 1 / per_second if per_second else 0.0
        self._gap = 0.0
        self._next = 0.0
        self._paused_until = self._closed_until = float("-inf")
        self._lock = Lock()

    @contextmanager
    def slot(self, *, bulk: bool = False) -> Iterator[None]:
        """Hold one of the host's slots, `bulk` for what may take long. Raises `Stopped`."""
        with self._held(self._bulk if bulk else None), self._held(self._slots):
            self._waits.sleep(self._turn())
            yield

    @contextmanager
    def _held(self, semaphore: BoundedSemaphore | None) -> Iterator[None]:
        if semaphore is None:
            yield
            return
        self._waits.acquire(semaphore)
        try:
            yield
        finally:
            semaphore.release()

    def _turn(self) -> float:
        """Seconds until this request may go out; the next one comes after it."""
        with self._lock:
            now = self._waits.clock()
            mine = max(now, self._next)
            self._next = mine + max(self._interval, self._gap)
            return mine - now

    def limited(self, retry_after: float | None) -> None:
        """The host answered 429, or asked us to wait `retry_after` seconds: until then nobody asks it
        anything, and afterwards one by one."""
        with self._lock:
            now = self._waits.clock()
            if retry_after is not None and retry_after > MAX_WAIT:
                self._closed_until = now + min(retry_after, _LONGEST_CLOSED)
                return
            # Requests that were on their way already say nothing about the new rate.
            if now >= self._paused_until:
                self._gap = min(max(self._gap * 2, _FIRST_GAP), _LONGEST_GAP)
            self._paused_until = now + (_PAUSE if retry_after is None else retry_after)
            self._next = max(self._next, self._paused_until)

    def closed_for(self) -> float:
        """Seconds until the host may be asked again, where that is too long to wait; 0 where it is not."""
        return max(self._closed_until - self._waits.clock(), 0.0)

    def welcome(self) -> None:
        """The host answered well."""
        if self._gap:
            with self._lock:
                self._gap = self._gap * _SHRINK if self._gap > _NO_GAP else 0.0
