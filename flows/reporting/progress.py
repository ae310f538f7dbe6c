"""How far a run is, and how fast bytes arrive: one timer thread, never one update an image."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from registry_server.human_units import human_bytes, human_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.context.mirror_run import MirrorRun
    from tasks.run.record import RunRecord, Totals

# An update costs the two sides some 13 ms of CPU together: 1 % of a core at this rate.
_INTERVAL_SECONDS: Final = 1.0

# Set by a command that runs a flow in its own process and draws bars for it.
listener: ContextVar[Callable[[str, Totals], None] | None] = ContextVar("listener", default=None)
_WINDOW_SECONDS: Final = 15.0


class ProgressSink(Protocol):
    def progress(self, percent: float, words: str) -> None:
        """Show the state of the run; called from one thread at a time."""
        ...


@contextmanager
def report_progress(run: MirrorRun, record: RunRecord, sink: ProgressSink) -> Iterator[None]:
    """Show progress once a second, and once more at the end."""
    ended = threading.Event()
    tell = listener.get()

    def show() -> None:
        totals = record.totals(run.live.bytes_moved)
        sink.progress(percent(totals), words(totals))
        if tell is not None:
            tell(run.entry.name, totals)

    def tick() -> None:
        while not ended.wait(_INTERVAL_SECONDS):
            show()

    # With this thread's context, or Prefect would not know which run the progress belongs to.
    timer = threading.Thread(target=copy_context().run, args=(tick,), name="progress", daemon=True)
    timer.start()
    try:
        yield
    finally:
        ended.set()
        timer.join()
        show()


def percent(totals: Totals) -> float:
    """By bytes where some are planned, else by images: 0 to 100."""
    if totals.planned_bytes:
        return min(100.0, 100 * totals.moved_bytes / totals.planned_bytes)
    settled = totals.published + totals.failed + totals.skipped
    return 100 * settled / totals.images if totals.images else 0.0


def words(totals: Totals) -> str:
    """E.g. `310 of 1,200 images, 1.2 GB of 4.0 GB, 2 failed, 88 unchanged`."""
    parts = [f"{totals.published:,} of {totals.images:,} images"]
    if totals.planned_bytes:
        parts.append(f"{human_bytes(totals.moved_bytes)} of {human_bytes(totals.planned_bytes)}")
    parts += [f"{totals.failed:,} failed"] if totals.failed else []
    parts += [f"{totals.skipped:,} left out"] if totals.skipped else []
    parts += [f"{totals.unchanged:,} unchanged"] if totals.unchanged else []
    return ", ".join(parts)


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
