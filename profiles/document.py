"""A profile's text as a tree that remembers where everything stands; what the readers make of a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 64  # a profile is some eight levels deep; what is deeper is an attack or an accident


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """Line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the text itself (syntax), before anybody asks what it means."""

    place: Place
    found: str
    write: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One key of a mapping and its value."""

    key: str
    place: Place
    value: Node


@dataclass(frozen=True, slots=True)
class Node:
    """A mapping (members, in order), a list (items) or a scalar (value)."""

    place: Place
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
    """`root` is None when the text could not be understood at all; `flaws` say why."""

    root: Node | None
    flaws: tuple[Flaw, ...] = field(default=())


def duplicate(key: str, first: Place, again: Place) -> Flaw:
    """Two values for one key: two readers would understand two different profiles."""
    return Flaw(again, f"the key {key!r} stands already on line {first.line}", "keep one of the two")
