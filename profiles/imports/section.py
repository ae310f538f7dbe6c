"""Another program's configuration, read key by key: what is of the wrong kind is refused with its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from profiles.errors import Problem, ProfileInvalid, Refusal
from profiles.imports.image_reference import without_login
from profiles.loading.document import Node
from profiles.values.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Section:
    """A mapping. `rest` are the unknown keys: those that were not read."""

    node: Node
    path: str
    file: Path
    _taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.node.members is None and self.node.plain() is not None:
            self.refuse(self.node, self.path, "a section with keys")

    def refuse(self, node: Node, path: str, expected: str) -> NoReturn:
        found = f"not {expected}"
        place = node.place
        raise ProfileInvalid(
            (Problem(self.file, place.line, place.column, path, found, f"write {expected} there"),)
        )

    @property
    def keys(self) -> list[str]:
        return [member.key for member in self.node.members or ()]

    @property
    def rest(self) -> list[str]:
        return [key for key in self.keys if key not in self._taken and not key.startswith("x-")]

    def has(self, key: str) -> bool:
        """Whether the key is there; from now on it is known."""
        self._taken.add(key)
        return key in self.keys

    def text(self, key: str) -> str:
        """ "" where it is missing. A number is its digits, as YAML's users leave out the quotes."""
        value = self._value(key, (str, int, float), "a text")
        return "" if value is None else str(value)

    def flag(self, key: str) -> bool | None:
        found: bool | None = self._value(key, (bool,), "true or false")
        return found

    def number(self, key: str) -> float | None:
        found: float | None = self._value(key, (int, float), "a number")
        return found

    def duration(self, key: str) -> float | None:
        """Seconds; None for none, and for 0."""
        node = self._node(key)
        if node is None:
            return None
        try:
            return parse_duration(node.plain()) or None
        except Refusal:
            self.refuse(node, self._spell(key), "a duration such as 60m")

    def texts(self, key: str) -> list[str]:
        """A single text is a list of one."""
        node = self._node(key)
        values = [] if node is None else node.plain() if node.items is not None else [node.plain()]
        if any(isinstance(value, bool) or not isinstance(value, str | int | float) for value in values):
            self.refuse(node or self.node, self._spell(key), "a list of texts")
        return [str(value) for value in values]

    def section(self, key: str) -> Section:
        node = self._node(key) or Node(self.node.place, members=())
        return Section(node, self._spell(key), self.file)

    def sections(self, key: str) -> Iterator[Section]:
        node = self._node(key)
        if node is not None and node.items is None:
            self.refuse(node, self._spell(key), "a list")
        for number, item in enumerate(node.items or () if node else ()):
            yield Section(item, f"{self._spell(key)}[{number}]", self.file)

    def _value(self, key: str, kinds: tuple[type, ...], expected: str) -> Any:
        node = self._node(key)
        if node is None:
            return None
        value = node.plain()
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            self.refuse(node, self._spell(key), expected)
        return value

    def _node(self, key: str) -> Node | None:
        """None for a missing key and for one without a value."""
        self._taken.add(key)
        found = next((member.value for member in self.node.members or () if member.key == key), None)
        return None if found is None or found.plain() is None else found

    def _spell(self, key: str) -> str:
        """skopeo has hosts as keys, which may have a login in front."""
        bare = without_login(key)
        return f"{self.path}.{bare}" if self.path else bare
