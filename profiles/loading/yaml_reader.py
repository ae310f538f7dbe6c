"""YAML with places: composed nodes instead of plain objects, with aliases and merge keys resolved."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from profiles.loading.document import (
    EMPTY,
    MAX_DEPTH,
    Document,
    Member,
    Node,
    Position,
    SyntaxProblem,
    duplicate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_NODES = 200_000  # aliases of aliases grow without bound ("a billion laughs")
_MERGE = "tag:yaml.org,2002:merge"
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")}


class _Loader(yaml.SafeLoader):
    """Dates and base-60 numbers (`1:30`) stay texts: no key of a profile means either."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":int"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+|0o[0-7]+)$"),
    list("-+0123456789"),
)


class _Refused(Exception):
    def __init__(self, node: yaml.Node, found: str, write: str) -> None:
        super().__init__(found)
        self.problem = SyntaxProblem(_place(node.start_mark), found, write)


def read_yaml(text: str) -> Document:
    """Never raises: what is wrong is in `problems`."""
    loader = None
    try:
        loader = _Loader(text)
        composed = loader.get_single_node()
        if composed is None:
            return Document(None, (SyntaxProblem(Position(1, 1), EMPTY, "begin with storage and sync"),))
        reader = _Reader(loader)
        root = reader.node(composed, ())
    except yaml.MarkedYAMLError as error:
        return Document(None, (_syntax(error),))
    except yaml.reader.ReaderError as error:
        place = Position(text.count("\n", 0, error.position) + 1, 1)
        return Document(None, (SyntaxProblem(place, "a character that YAML does not allow", "delete it"),))
    except _Refused as refused:
        return Document(None, (refused.problem,))
    except RecursionError:
        return Document(
            None, (SyntaxProblem(Position(1, 1), "nested too deeply", f"use fewer than {MAX_DEPTH} levels"),)
        )
    finally:
        if loader is not None:
            loader.dispose()
    return Document(root, tuple(reader.problems))


class _Reader:
    def __init__(self, loader: _Loader) -> None:
        self.problems: list[SyntaxProblem] = []
        self._loader = loader
        self._left = _MAX_NODES

    def node(self, node: yaml.Node, above: tuple[int, ...]) -> Node:
        self._left -= 1
        if self._left < 0:
            raise _Refused(
                node, f"more than {_MAX_NODES} values once its aliases are resolved", "use fewer aliases"
            )
        if id(node) in above or len(above) >= MAX_DEPTH:
            raise _Refused(node, "nested too deeply, or an alias that contains itself", "write it out")
        inner = (*above, id(node))
        place = _place(node.start_mark)
        if node.tag not in _TAGS:
            raise _Refused(node, f"the YAML tag {node.tag!r}", "write plain texts, numbers, lists and keys")
        if isinstance(node, yaml.MappingNode):
            return Node(place, members=self._members(node, inner))
        if isinstance(node, yaml.SequenceNode):
            return Node(place, items=tuple(self.node(item, inner) for item in node.value))
        return Node(place, self._scalar(node))

    def _members(self, node: yaml.MappingNode, above: tuple[int, ...]) -> tuple[Member, ...]:
        own: dict[str, Member] = {}
        merged: dict[str, Member] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for member in self._merged(value, above):
                    merged.setdefault(member.key, member)
                continue
            member = Member(self._key(key), _place(key.start_mark), self.node(value, above))
            if member.key in own:
                self.problems.append(duplicate(member.key, own[member.key].place, member.place))
            own[member.key] = member
        return tuple((merged | own).values())

    def _merged(self, value: yaml.Node, above: tuple[int, ...]) -> Iterator[Member]:
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            yield from self.node(source, above).members or ()

    def _key(self, key: yaml.Node) -> str:
        if not isinstance(key, yaml.ScalarNode):
            raise _Refused(key, "a key that is not a text", "write 'key: value'")
        return str(key.value)

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag.endswith(":int") and node.value.lstrip("+-").startswith("0o"):
            return int(node.value, 8)
        try:
            return self._loader.construct_object(node)
        except ValueError as error:
            raise _Refused(node, f"{node.value!r} does not fit its type", "write it in quotes") from error


def _syntax(error: yaml.MarkedYAMLError) -> SyntaxProblem:
    mark = error.problem_mark or error.context_mark
    place = _place(mark) if mark else Position(1, 1)
    found = " ".join(filter(None, (error.problem, f"({error.context})" if error.context else "")))
    return SyntaxProblem(place, f"not YAML: {found}", _hint(error, mark))


def _hint(error: yaml.MarkedYAMLError, mark: yaml.Mark | None) -> str:
    problem = error.problem or ""
    if "'\\t'" in problem:
        return "indent with spaces: YAML allows no tabs there"
    if "'*'" in problem or "alias" in f"{problem}{error.context}":
        return "a pattern that begins with '*' needs quotes, as in prefix: '**'"
    if "mapping values are not allowed" in problem:
        return (
            "put a value with ': ' in it in quotes, and check the indentation of this line and the one before"
        )
    if "another document" in problem:
        return "a profile is one document: delete the '---' in the middle"
    if "','" in problem:
        return "a comma or a closing bracket is missing before this place"
    return "check the indentation and the quotes here" if mark else ""


def _place(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)
