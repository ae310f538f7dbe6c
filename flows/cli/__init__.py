"""The `mirrorflow` command."""

from __future__ import annotations


def main() -> None:
    """The entry point of the distribution. The commands are imported when it is called."""
    from flows.cli.app import main as run

    run()
