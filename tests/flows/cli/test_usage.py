from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import typer

from flows.cli.app import app
from flows.cli.usage import plain_usage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("typers", "plain"),
    [
        ("{PROFILE}", "PROFILE"),
        ("[[RUN]]", "[RUN]"),
        ("[REPO...]...", "[REPO...]"),
        ("{IMAGE...}...", "IMAGE..."),
        ("[OPTIONS]", "[OPTIONS]"),
        ("COMMAND", "COMMAND"),
    ],
)
def test_an_argument_stands_in_the_usage_as_manuals_write_it(typers: str, plain: str) -> None:
    assert plain_usage(typers) == plain


def test_no_command_has_braces_or_doubled_brackets_in_its_usage() -> None:
    root: Any = typer.main.get_command(app)
    usages = list(_usages(root, root.context_class(root)))
    assert len(usages) > 20
    assert "check [OPTIONS] PROFILE" in usages
    assert not [usage for usage in usages if "{" in usage or "[[" in usage]


def _usages(group: Any, context: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        inner = command.context_class(command, parent=context, info_name=name)
        if hasattr(command, "commands"):
            yield from _usages(command, inner)
        else:
            yield " ".join([name, *command.collect_usage_pieces(inner)])
