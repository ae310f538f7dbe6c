"""The usage line of a command as manuals write it: `mirrorflow check [OPTIONS] PROFILE`.

Typer puts a required argument into braces, and an optional one into brackets also where its name has them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from collections.abc import Callable

_REQUIRED: Final = re.compile(r"\{(.+?)\}(?:\.\.\.)?")
_OPTIONAL: Final = re.compile(r"\[\[?(.+?)\]?\](?:\.\.\.)?")
_OPTIONS: Final = "[OPTIONS]"


def plain_usage(piece: str) -> str:
    """`{PROFILE}` is `PROFILE`, `[[RUN]]` is `[RUN]`, `{IMAGE...}...` is `IMAGE...`."""
    if required := _REQUIRED.fullmatch(piece):
        return required[1]
    optional = None if piece == _OPTIONS else _OPTIONAL.fullmatch(piece)
    return f"[{optional[1]}]" if optional else piece


class PlainCommand(TyperCommand):
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [plain_usage(piece) for piece in super().collect_usage_pieces(ctx)]


class PlainTyper(typer.Typer):
    """Its commands are `PlainCommand`."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        return super().command(name, **{"cls": PlainCommand} | options)
