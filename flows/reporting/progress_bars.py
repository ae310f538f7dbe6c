"""Progress in the terminal, for a flow that runs in this process."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from flows.reporting.console import err
from flows.reporting.progress import listener, percent, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from tasks.run.record import Totals


@contextmanager
def progress_bar(registry: str) -> Iterator[None]:
    """One bar for one registry entry, fed by the run's own timer; nothing where stderr is no terminal."""
    columns = (
        TextColumn("{task.fields[registry]}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("looking", total=None, registry=registry)

        def show(_registry: str, totals: Totals) -> None:
            known = totals.images > 0
            progress.update(
                bar, description=words(totals), completed=percent(totals), total=100 if known else None
            )

        token = listener.set(show)
        try:
            yield
        finally:
            listener.reset(token)


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
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    quiet = disable or not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=quiet, redirect_stdout=False) as progress:
        yield ProgressLine(progress, progress.add_task(words, total=None))
