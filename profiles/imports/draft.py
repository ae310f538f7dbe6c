"""A profile that is being written: keys, and above them comments about what cannot be said."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WIDTH: Final = 100
CREDENTIALS_FILE: Final = "./credentials.json"


@dataclass
class Part:
    """A content rule: its keys, and comments. None, "" and empty lists are left out."""

    keys: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, *texts: str) -> None:
        self.notes += [text for text in texts if text not in self.notes]


@dataclass
class Entry(Part):
    """A registry entry. One without content is printed as comments only."""

    rules: list[Part] = field(default_factory=list)


@dataclass
class Draft(Part):
    """The whole. `logins`: hosts that the other program has a password for, which is not repeated."""

    entries: list[Entry] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)


def render(draft: Draft) -> str:
    """YAML that loads. Texts of the input are quoted in keys and cannot leave a comment."""
    return "\n".join(_lines(draft)) + "\n"


def _lines(draft: Draft) -> Iterator[str]:
    yield from _comments(draft.notes, "")
    yield "storage:"
    yield "  rootDirectory: ./store"
    yield "sync:"
    if draft.logins:
        yield from _comments([_login_hint(draft.logins)], "  ")
        yield f"  credentialsFile: {CREDENTIALS_FILE}"
    yield from _values(draft.keys, "  ")
    entries = [entry for entry in draft.entries if entry.rules]
    for entry in draft.entries:
        if not entry.rules:
            yield from _comments(entry.notes, "  ")
    yield "  registries:" if entries else "  registries: []"
    for entry in entries:
        yield from _item(entry, "    ", [*_nested(entry)])


def _nested(entry: Entry) -> Iterator[str]:
    yield "content:"
    for rule in entry.rules:
        yield from _item(rule, "  ", [])


def _item(part: Part, indent: str, nested: Iterable[str]) -> Iterator[str]:
    """An element of a list: comments, keys, and what stands below them."""
    yield from _comments(part.notes, indent)
    lines = [*_values(part.keys, ""), *nested]
    for number, line in enumerate(lines):
        yield f"{indent}{'  ' if number else '- '}{line}"


def _values(keys: dict[str, Any], indent: str) -> Iterator[str]:
    for key, value in keys.items():
        if value not in (None, "", [], {}):
            text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
            yield f"{indent}{key}: {text.removesuffix('...' + chr(10)).strip()}"


def _comments(notes: Iterable[str], indent: str) -> Iterator[str]:
    for note in notes:
        clean = "".join(char if char.isprintable() else " " for char in note)
        for line in textwrap.wrap(clean, _WIDTH, break_on_hyphens=False):
            yield f"{indent}# {line}"


def _login_hint(hosts: Iterable[str]) -> str:
    example = ", ".join(f'"{host}": {{"username": "…", "password": "…"}}' for host in dict.fromkeys(hosts))
    return (
        f"Passwords are not printed. Write this file with them, readable for the service only: {{{example}}}"
    )
