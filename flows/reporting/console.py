"""Where commands print: results to stdout, everything that is about them to stderr."""

from __future__ import annotations

import json
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console
    from rich.text import Text

# What reads a pipe or a file needs a row on one line; only a terminal has a width.
_UNFOLDED: Final = 100_000
_WIDE: Final = 110


class _LaterConsole:
    """A console that is made when something is printed: importing rich takes as long as typer itself."""

    def __init__(self, *, stderr: bool = False) -> None:
        self._stderr = stderr

    def __getattr__(self, name: str) -> object:
        return getattr(self._console, name)

    def __enter__(self) -> Console:  # Python looks these two up on the class; bars are drawn within them
        return self._console.__enter__()

    def __exit__(self, *raised: object) -> None:
        self._console.__exit__(*raised)

    @cached_property
    def _console(self) -> Console:
        from flows.reporting.safe_console import SafeConsole

        stream = sys.stderr if self._stderr else sys.stdout
        width = None if stream is not None and stream.isatty() else _UNFOLDED
        return SafeConsole(stderr=self._stderr, highlight=False, soft_wrap=True, width=width)


out = cast("Console", _LaterConsole())
err = cast("Console", _LaterConsole(stderr=True))


def is_narrow(console: Console) -> bool:
    """Whether tables and bars have to do with some 80 columns."""
    return console.width < _WIDE


def say(words: str) -> None:
    """Something about the work, in a quiet colour; never markup, whatever is in it."""
    err.print(_text((words, "dim")))


def complain(words: str) -> None:
    """An error: `error: ...`; each further line (a profile with several mistakes) begins the same way."""
    for line in words.splitlines() or [""]:
        err.print(_text(("error: ", "bold red"), (line, "")))


def warn(warnings: Iterable[object]) -> None:
    for warning in warnings:
        err.print(_text(("warning: ", "bold yellow"), (str(warning), "")))


def _text(*parts: tuple[str, str]) -> Text:
    """Words, each with its style."""
    from rich.text import Text

    return Text.assemble(*parts)


def print_json(document: Mapping[str, object]) -> None:
    """What `--json` prints, with the version of its fields (docs/reports.md)."""
    sys.stdout.write(json.dumps({"version": 1, **document}, indent=2) + "\n")


def print_json_list(documents: Iterable[Mapping[str, object]]) -> None:
    """As `print_json`: a list, each element with the version of its fields."""
    sys.stdout.write(json.dumps([{"version": 1, **each} for each in documents], indent=2) + "\n")
