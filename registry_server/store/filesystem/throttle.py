"""Let an action through at most once per key and interval."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS: Final = 60.0
_MOST: Final = 10_000  # keys; then it begins anew


class Throttle:
    """Whether an action may run again, by key. `clock` in seconds; shared by threads."""

    def __init__(self, seconds: float = _SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._next: dict[str, float] = {}

    def allow(self, key: str) -> bool:
        """True the first time, and once in so many seconds."""
        now = self._clock()
        if self._next.get(key, 0.0) > now:
            return False
        if len(self._next) >= _MOST:
            self._next = {}
        self._next[key] = now + self._seconds
        return True
