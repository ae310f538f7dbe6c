"""Waiting that can be stopped: every wait of this package goes through here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from tasks.upstream.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

_SLICE = 0.1  # seconds: how soon a stop is noticed


class Acquirable(Protocol):
    """A lock or a semaphore."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...  # noqa: FBT001, FBT002 - threading's own signature


class Waits:
    """`clock` gives seconds that never go back; `sleep` takes seconds."""

    def __init__(
        self,
        cancelled: Callable[[], bool] = lambda: False,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cancelled = cancelled
        self.clock = clock
        self._sleep = sleep

    def check(self) -> None:
        """Raises `Stopped`."""
        if self._cancelled():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Raises `Stopped` within a tenth of a second of a stop."""
        self.check()
        if not seconds:
            return
        end = self.clock() + seconds
        while (left := end - self.clock()) > 0:
            self._sleep(min(left, _SLICE))
            self.check()

    def acquire(self, lock: Acquirable) -> None:
        """Take `lock`, however long that takes. Raises `Stopped`."""
        while not lock.acquire(timeout=_SLICE):
            self.check()
