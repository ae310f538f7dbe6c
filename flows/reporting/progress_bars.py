"""Progress in the terminal, for a flow that runs in this process."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flows.reporting.console import err, is_narrow, say
from flows.reporting.progress import TransferRate, listener, percent, words
from registry_server.human_units import human_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress, TaskID

    from tasks.run.record import Totals

    Show = Callable[[str, Totals], None]

_LINE_SECONDS: Final = 10.0
_SCALE: Final = 1000
_NAME: Final = 20  # characters of a registry entry's name in a narrow terminal


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
    rates = {registry: TransferRate() for registry in registries}
    narrow = is_narrow(err)
    with _drawn(registries) as (progress, bars):

        def show(registry: str, totals: Totals) -> None:
            rates[registry].add(totals.moved_bytes, time.monotonic())
            words = (_short_words if narrow else _all_words)(totals, rates[registry])
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


@contextmanager
def remote_bars(parts: Sequence[str]) -> Iterator[Callable[[str, float, str], None]]:
    """A bar for each run of another process: told its percent, and what it says of itself.

    Does nothing without a terminal.
    """
    if not err.is_terminal:
        yield lambda _part, _percent, _words: None
        return
    rates = {part: TransferRate() for part in parts}
    with _drawn(parts) as (progress, bars):

        def show(part: str, percent: float, words: str) -> None:
            rates[part].add(round(percent * _SCALE), time.monotonic())
            said = with_time_left(words, percent, rates[part])
            progress.update(bars[part], description=said, completed=percent, total=100)

        yield show


def with_time_left(words: str, percent: float, rate: TransferRate) -> str:
    """`rate` was told of the percent, in parts of a thousand: how many bytes arrive, the words do not say."""
    speed, left = rate.per_second, (100 - percent) * _SCALE
    return f"{words}, {human_seconds(max(1.0, left / speed))} left" if speed and left > 0 else words


@contextmanager
def _drawn(names: Sequence[str]) -> Iterator[tuple[Progress, dict[str, TaskID]]]:
    """One bar for each name. What is left of a line of 80 columns is for the words."""
    # Late: it is for terminals.
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    narrow = is_narrow(err)
    name = Column(max_width=_NAME if narrow else None, no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("{task.fields[registry]}", markup=False, table_column=name),
        BarColumn(bar_width=12 if narrow else 24),
        TextColumn(
            "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
        ),
        *([] if narrow else [TimeElapsedColumn()]),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        yield progress, {each: progress.add_task("looking", total=None, registry=each) for each in names}


def _all_words(totals: Totals, rate: TransferRate) -> str:
    """With the rate, and the time that is left for the bytes that are planned so far."""
    speed = rate.words(totals.planned_bytes - totals.moved_bytes)
    return ", ".join(filter(None, (words(totals), speed)))


def _short_words(totals: Totals, rate: TransferRate) -> str:
    """The same in some 45 characters; the bar has the share of the bytes."""
    images = f"{totals.published:,}/{totals.images:,} images"
    failed = f"{totals.failed:,} failed" if totals.failed else ""
    speed = rate.words(totals.planned_bytes - totals.moved_bytes)
    return ", ".join(filter(None, (f"{percent(totals):.0f} %", images, failed, speed)))


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
