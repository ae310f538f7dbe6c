"""How many requests of which kind, and how many bytes, a run cost an upstream."""

from __future__ import annotations

from collections import Counter
from threading import Lock


class Counts:
    """Thread-safe. Keys: "HEAD manifest", "GET blob", "GET tags", "GET catalog", "GET token", "bytes", …"""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counter: Counter[str] = Counter()

    def add(self, key: str, number: int = 1) -> None:
        with self._lock:
            self._counter[key] += number

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counter)
