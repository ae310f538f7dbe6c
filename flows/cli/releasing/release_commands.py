"""Commands for locked sets: lock. What is taken, written down, so that it can be reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.profile_commands import ProfilePath, Registries, load_to_ask
from flows.reporting.console import out, say


def register(app: typer.Typer) -> None:
    app.command()(lock)


def lock(
    profile: ProfilePath,
    registry: Registries = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The lock. Default: `mirrorflow.lock` beside the profile."
        ),
    ] = None,
) -> None:
    """Write down what a sync would take now: the digest of every image, a line each. Changes no store.

    `sync --locked` takes exactly that; `plan` shows what has changed since. Prints the difference to the lock
    that was there.

    Exit code 0: it was written; 1: something could not be checked, and nothing was written.
    """
    from flows.cli.plan import plan_entries
    from flows.cli.releasing.locks import difference_lines, in_words, lock_path, write_lock
    from flows.entries import selected_entries

    loaded = load_to_ask(profile)
    path = lock_path(loaded, to)
    entries = selected_entries(loaded.profile, registry)
    plans = plan_entries(loaded.profile, entries, weigh=True)
    difference = write_lock(path, plans)
    for line in difference_lines(difference):
        out.print(line, markup=False)
    say(f"{path}: {sum(len(plan.taken) for plan in plans):,} images; {in_words(difference)}")
