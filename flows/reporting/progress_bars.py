"""Progress in the terminal, for a flow that runs in this process."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flows.reporting.console import err, say
from flows.reporting.progress import TransferRate, listener, percent, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress, TaskID

    from tasks.run.record import Totals

    Show = Callable[[str, Totals], None]

_LINE_SECONDS: Final = 10.0


@contextmanager
def progress_bars(registries: Sequence[str]) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """A bar for each registry entry, fed by the timer of its run; lines now and then without a terminal.

    Gives a context in which results can be printed to the same terminal.
    """
    if err.is_terminal:
        with _bars(registries) as (show, aside), _listening(show):
            yield aside
    else:
        lines = {registry: ProgressLines(say, time.monotonic()) for registry in registries}
        with _listening(lambda registry, totals: lines[registry].show(registry, totals)):
            yield nullcontext


@contextmanager
def _listening(show: Show) -> Iterator[None]:
    token = listener.set(show)
    try:
        yield
    finally:
        listener.reset(token)


@contextmanager
def _bars(registries: Sequence[str]) -> Iterator[tuple[Show, Callable[[], AbstractContextManager[None]]]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.fields[registry]}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    rates = {registry: TransferRate() for registry in registries}
    with Progress(*columns, console=err, transient=True) as progress:
        bars = {
            registry: progress.add_task("looking", total=None, registry=registry) for registry in registries
        }

        def show(registry: str, totals: Totals) -> None:
            rates[registry].add(totals.moved_bytes, time.monotonic())
            words = _all_words(totals, rates[registry])
            total = 100 if totals.images > 0 else None
            progress.update(bars[registry], description=words, completed=percent(totals), total=total)

        @contextmanager
        def aside() -> Iterator[None]:
            progress.stop()
            try:
                yield
            finally:
                progress.start()

        yield show, aside


def _all_words(totals: Totals, rate: TransferRate) -> str:
    """With the rate, and the time that is left for the bytes that are planned so far."""
    speed = rate.words(totals.planned_bytes - totals.moved_bytes)
    return ", ".join(filter(None, (words(totals), speed)))


@dataclass(slots=True)
class ProgressLines:
    """A line every ten seconds, for logs: a run that is shorter prints none."""

    say: Callable[[str], None]
    last: float  # when the run began, or the last line was printed; seconds of a monotonic clock
    clock: Callable[[], float] = time.monotonic
    _rate: TransferRate = field(default_factory=TransferRate)

    def show(self, registry: str, totals: Totals) -> None:
        now = self.clock()
        self._rate.add(totals.moved_bytes, now)
        if now - self.last >= _LINE_SECONDS:
            self.last = now
            self.say(f"{registry}: {_all_words(totals, self._rate)}")


@dataclass(slots=True)
class ProgressLine:
    """A line that says how far something of unknown length is."""

    _progress: Progress
    _task: TaskID

    def show(self, words: str) -> None:
        self._progress.update(self._task, description=words)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The line is away, so that results can be printed to the same terminal."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


@contextmanager
def progress_line(words: str, *, disable: bool = False) -> Iterator[ProgressLine]:
    """Nothing where stderr is no terminal."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    quiet = disable or not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=quiet, redirect_stdout=False) as progress:
        yield ProgressLine(progress, progress.add_task(words, total=None))
