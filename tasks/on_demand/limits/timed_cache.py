"""A bounded cache whose readers say how old an entry may be. Losing it costs requests and no correctness."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from cachetools import FIFOCache

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class TimedCache(Generic[K, V]):
    """At most `most` entries; the one that was put first goes first. Thread-safe.

    Not a `TTLCache`: one entry is fresh for one reader and too old for another.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: FIFOCache[K, tuple[float, V]] = FIFOCache(most)
        self._lock = threading.Lock()

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._held[key] = (self._clock(), value)

    def get(self, key: K, *, younger_than: float = float("inf")) -> V | None:
        with self._lock:
            found = self._held.get(key)
            return found[1] if found is not None and self._clock() - found[0] < younger_than else None

    def age(self, key: K) -> float:
        """Infinite when it is not here."""
        with self._lock:
            found = self._held.get(key)
            return float("inf") if found is None else self._clock() - found[0]

    def drop(self, key: K) -> None:
        with self._lock:
            self._held.pop(key, None)

    def items(self) -> list[tuple[K, V]]:
        with self._lock:
            return [(key, value) for key, (_, value) in self._held.items()]
