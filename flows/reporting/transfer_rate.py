"""How fast bytes arrive, and how long the rest will take: over the last seconds, not since the beginning."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from registry_server.human_units import human_bytes, human_seconds

_WINDOW_SECONDS: Final = 15.0


@dataclass(slots=True)
class TransferRate:
    """Told from time to time how many bytes there are; moments in seconds of any clock."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, total: int, now: float) -> None:
        self._seen.append((now, total))
        while self._seen[0][0] < now - _WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """0.0 while nothing arrives, and before two looks."""
        if not self._seen:
            return 0.0
        (begun, first), (now, last) = self._seen[0], self._seen[-1]
        return max(0.0, (last - first) / (now - begun)) if now > begun else 0.0

    def words(self, left: int) -> str:
        """E.g. `45.0 MB/s, 2 min left`, with `left` bytes to come; "" while nothing arrives."""
        rate = self.per_second
        if not rate:
            return ""
        speed = f"{human_bytes(rate)}/s"
        return f"{speed}, {human_seconds(max(1.0, left / rate))} left" if left > 0 else speed
