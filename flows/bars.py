"""Progress in the terminal, for a flow that runs in this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flows.console import err
from flows.progress import listener, percent, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.ledger import Totals


@contextmanager
def bars(registry: str) -> Iterator[None]:
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
