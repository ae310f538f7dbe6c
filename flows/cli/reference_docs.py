"""`python -m flows.cli.reference_docs docs/`: the parts of the documents that are made from the code.

docs/profile.md is made whole, from the models; docs/commands.md between two marks, from the commands;
docs/lock.schema.json from the code that reads locks. Tests fail when one is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from flows.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN: Final = (
    "<!-- Made by `make docs` from the commands: change their words in flows/cli/*_commands.py. -->"
)
END: Final = "<!-- The end of what is made. -->"


def render_commands() -> str:
    """A section for each command: what it does, its arguments and options."""
    root: Any = typer.main.get_command(app)
    return "\n".join(line for name, command in _commands(root) for line in _command(name, command))


def with_commands(document: str) -> str:
    """`document` with what stands between the marks made anew. Raises ValueError without the marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no line {BEGIN!r} with a line {END!r} after it")
    return f"{before}{BEGIN}\n\n{render_commands()}\n{END}{after}"


def render_lock_schema() -> str:
    """The JSON Schema of `mirrorflow.lock`."""
    from profiles.lock_file import json_schema

    return json.dumps(json_schema(), indent=2) + "\n"


def write_reference(folder: Path) -> None:
    """Write docs/profile.md, docs/commands.md and docs/lock.schema.json anew."""
    from profiles.docs.reference import render_reference

    (folder / "profile.md").write_text(render_reference())
    (folder / "lock.schema.json").write_text(render_lock_schema())
    commands = folder / "commands.md"
    commands.write_text(with_commands(commands.read_text()))


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names, with those of the groups that a command is in, and commands."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _command(name: str, command: Any) -> Iterator[str]:
    parameters = [each for each in command.params if not each.hidden and each.name != "help"]
    arguments = [each for each in parameters if not _is_option(each)]
    usage = " ".join([f"mirrorflow {name}", *(_metavar(each) for each in arguments)])
    options = " [OPTIONS]" if len(arguments) < len(parameters) else ""
    yield f"### `{usage}{options}`"
    yield ""
    for paragraph in (command.help or "").split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""
    if parameters:
        yield "| | |"
        yield "|---|---|"
        yield from (f"| {_spelled(each)} | {_meaning(each)} |" for each in parameters)
        yield ""


def _is_option(parameter: Any) -> bool:
    return any(spelling.startswith("-") for spelling in parameter.opts)


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _spelled(parameter: Any) -> str:
    if not _is_option(parameter):
        return f"`{_metavar(parameter)}`"
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return ", ".join(f"`{spelling}{value}`" for spelling in (*parameter.opts, *parameter.secondary_opts))


def _meaning(parameter: Any) -> str:
    words = [" ".join((parameter.help or "").split())]
    if parameter.secondary_opts:
        words.append(f"Default: `{(parameter.opts if parameter.default else parameter.secondary_opts)[0]}`.")
    elif isinstance(parameter.default, str | int | Path) and not isinstance(parameter.default, bool):
        words.append(f"Default: `{parameter.default}`.")
    if parameter.envvar:
        words.append(f"Or the environment variable `{parameter.envvar}`.")
    if _is_option(parameter) and parameter.required:
        words.append("Required.")
    return " ".join(words).replace("|", "\\|")


if __name__ == "__main__":
    write_reference(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
