"""Where commands print: results to stdout, everything that is about them to stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


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
