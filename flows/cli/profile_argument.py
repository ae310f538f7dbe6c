"""MIRRORFLOW_PROFILE in place of a command's first argument, also where other arguments follow it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import typer

from flows.cli.usage import PlainCommand

if TYPE_CHECKING:
    from pathlib import Path

PROFILE_VARIABLE: Final = "MIRRORFLOW_PROFILE"


class ProfileFirst(PlainCommand):
    """A command with PROFILE and then an argument of its own.

    The command line gives its words to arguments from left to right. So the only word of `explain app:1`
    would be the profile; with the variable set, it is the image.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named, words = os.environ.get(PROFILE_VARIABLE), list(args)  # parsing empties `args`
        if not named:
            return super().parse_args(ctx, args)
        try:
            left = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if not _is_missing(error):
                raise
        else:
            if not _is_image(ctx.params.get("profile")):
                return left
        ctx.params.clear()
        return super().parse_args(ctx, [named, *words])


def _is_missing(error: typer.BadParameter) -> bool:
    """An argument is missing; typer does not export this subclass."""
    return type(error) is not typer.BadParameter


def _is_image(profile: Path | None) -> bool:
    """`store export app:1 …`: the images may be any number, so none is missing."""
    return profile is not None and not profile.exists() and bool({":", "@"} & set(profile.name))
