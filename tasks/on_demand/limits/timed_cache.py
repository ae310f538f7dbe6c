"""What is remembered between two questions: bounded, and lost with the process without any harm."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class TimedCache(Generic[K, V]):
    """A map with a limit, the oldest entries go first; each knows its age in seconds. Thread-safe."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._held: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._held[key] = (self._clock(), value)
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)

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
