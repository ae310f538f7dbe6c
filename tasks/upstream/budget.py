"""Docker Hub's pull limit: read from every answer, and waited for instead of run into.

Only a GET of a manifest counts; a HEAD is free and tells what is left. The figures are the server's: they
are never assumed, and where the headers are missing nothing is metered.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from registry_server.human_units import human_seconds
from tasks.upstream.errors import UpstreamLimited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.errors import Where

_FIGURE = re.compile(r"\s*(\d{1,12})\s*(?:;\s*w=(\d{1,9}))?")
_WINDOW = 6 * 3600  # seconds, where the header has none
_LONGEST_WINDOW = 24 * 3600  # seconds; a run waits as long for pulls, whatever a header says
_LONGEST_LOOK = 900  # seconds between two looks at what is left
_RESERVE = 50  # one part in so many stays for the others behind the same address


@dataclass(frozen=True, slots=True)
class Budget:
    """`remaining` of `limit` pulls in `window` seconds, counted for `source` (an address or an account);
    `waited`: seconds that the run has spent waiting for more, in all threads together."""

    limit: int
    remaining: int
    window: int
    source: str = ""
    waited: float = 0.0

    def __str__(self) -> str:
        """E.g. `76 of 100 pulls are left in 6 h for 203.0.113.7; the run waited 30 min for more`."""
        whom = f" for {self.source}" if self.source else ""
        waited = f"; the run waited {human_seconds(self.waited)} for more" if self.waited else ""
        left = f"{self.remaining:,} of {self.limit:,} pulls are left"
        return f"{left} in {human_seconds(self.window)}{whom}{waited}"

    @property
    def reserve(self) -> int:
        return max(self.limit // _RESERVE, 1)


def read_budget(headers: httpx.Headers) -> Budget | None:
    """None: not metered, or nothing that can be understood."""
    if (text := headers.get("ratelimit-limit")) is None:
        return None
    limit = _FIGURE.match(text)
    remaining = _FIGURE.match(headers.get("ratelimit-remaining", ""))
    if limit is None or remaining is None:
        return None
    window = int(limit[2] or remaining[2] or _WINDOW)
    window = min(window, _LONGEST_WINDOW)
    return Budget(int(limit[1]), int(remaining[1]), window, headers.get("docker-ratelimit-source", "")[:100])


class Ledger:
    """What is left for one registry. Thread-safe."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._budget: Budget | None = None
        self._in_flight = 0
        self._waited = 0.0
        self._lock = Lock()
        self._queue = Lock()

    def read(self, headers: httpx.Headers) -> None:
        """Take over what an answer about a manifest says."""
        if (found := read_budget(headers)) is not None:
            with self._lock:
                self._budget = found

    def snapshot(self) -> Budget | None:
        with self._lock:
            return replace(self._budget, waited=self._waited) if self._budget else None

    def is_low(self) -> bool:
        with self._lock:
            return self._is_low()

    def _is_low(self) -> bool:
        budget = self._budget
        return budget is not None and budget.remaining - self._in_flight <= budget.reserve

    @contextmanager
    def spend(self, look: Callable[[], bool], where: Where) -> Iterator[None]:
        """Hold one pull; wait for it while what is left is below the reserve.

        `look` reads the figures again for free, and tells whether this image is metered at all. One waits
        at a time, the others behind it. Raises `UpstreamLimited` after a whole window, `Stopped`.
        """
        if not self._take():
            self._waits.acquire(self._queue)
            try:
                self._wait(look, where)
            finally:
                self._queue.release()
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def _take(self, *, metered: bool = True) -> bool:
        with self._lock:
            if metered and self._is_low():
                return False
            self._in_flight += 1
            return True

    def _wait(self, look: Callable[[], bool], where: Where) -> None:
        waited = 0.0
        while not self._take(metered=look()):
            budget = self.snapshot()
            assert budget is not None
            pause = min(max(budget.window / max(budget.limit, 1), 1.0), _LONGEST_LOOK)
            if waited + pause > budget.window:
                raise UpstreamLimited(where, _used_up(budget, waited), 429, retry_after=pause)
            self._waits.sleep(pause)
            waited += pause
            with self._lock:
                self._waited += pause


def _used_up(budget: Budget, waited: float) -> str:
    left = f"{budget.remaining} of {budget.limit} pulls in {budget.window / 3600:g} h left"
    return (
        f"its pull limit is used up ({left} for {budget.source or 'us'}), and {waited / 60:.0f} minutes of "
        "waiting brought no more; log in, or mirror less often"
    )
