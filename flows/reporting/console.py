"""Where commands print: results to stdout, everything that is about them to stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

# What reads a pipe or a file needs a row on one line; only a terminal has a width.
_UNFOLDED: Final = 100_000


def _console(stream: TextIO | None, *, stderr: bool = False) -> Console:
    width = None if stream is not None and stream.isatty() else _UNFOLDED
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)


out = _console(sys.stdout)
err = _console(sys.stderr, stderr=True)


def say(words: str) -> None:
    """Something about the work, in a quiet colour; never markup, whatever is in it."""
    err.print(Text(words, style="dim"))


def complain(words: str) -> None:
    """An error: `error: ...`; each further line (a profile with several mistakes) begins the same way."""
    for line in words.splitlines() or [""]:
        err.print(Text.assemble(("error: ", "bold red"), line))


def warn(warnings: Iterable[object]) -> None:
    for warning in warnings:
        err.print(Text.assemble(("warning: ", "bold yellow"), str(warning)))


def print_json(document: Mapping[str, object]) -> None:
    """What `--json` prints, with the version of its fields (docs/reports.md)."""
    sys.stdout.write(json.dumps({"version": 1, **document}, indent=2) + "\n")


def print_json_list(documents: Iterable[Mapping[str, object]]) -> None:
    """As `print_json`: a list, each element with the version of its fields."""
    sys.stdout.write(json.dumps([{"version": 1, **each} for each in documents], indent=2) + "\n")
