"""A profile's text as a tree that remembers where everything stands; what the readers make of a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

EMPTY = "the file is empty"  # `found` of a problem
MAX_DEPTH = 64  # a profile is some eight levels deep; what is deeper is an attack or an accident


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """Line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class SyntaxProblem:
    """What is wrong with the text itself (syntax), before anybody asks what it means."""

    place: Position
    found: str
    write: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One key of a mapping and its value."""

    key: str
    place: Position
    value: Node


@dataclass(frozen=True, slots=True)
class Node:
    """A mapping (members, in order), a list (items) or a scalar (value)."""

    place: Position
    value: Any = None
    members: tuple[Member, ...] | None = None
    items: tuple[Node, ...] | None = None

    def plain(self) -> Any:
        """The same without places, as `json.loads` gives it."""
        if self.members is not None:
            return {member.key: member.value.plain() for member in self.members}
        if self.items is not None:
            return [item.plain() for item in self.items]
        return self.value


@dataclass(frozen=True, slots=True)
class Document:
    """`root` is None when the text could not be understood at all; `problems` say why."""

    root: Node | None
    problems: tuple[SyntaxProblem, ...] = field(default=())


def duplicate(key: str, first: Position, again: Position) -> SyntaxProblem:
    """Two values for one key: two readers would understand two different profiles."""
    return SyntaxProblem(again, f"the key {key!r} stands already on line {first.line}", "keep one of the two")
