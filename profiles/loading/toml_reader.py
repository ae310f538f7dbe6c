"""TOML with places, as well as a line-by-line look can tell them: `tomllib` gives none."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from profiles.loading.document import Document, Member, Node, Position, SyntaxProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

_WHERE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_LINE = re.compile(
    rf"[ \t]*(?:\[\[\s*(?P<item>{_DOTTED})\s*\]\]|\[\s*(?P<table>{_DOTTED})\s*\]|(?P<key>{_DOTTED})[ \t]*=)"
)
_START = Position(1, 1)

_Path = tuple[str | int, ...]


def read_toml(text: str) -> Document:
    """Never raises: what is wrong is in `problems`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Document(None, (_syntax(str(error), text),))
    except RecursionError:
        return Document(None, (SyntaxProblem(_START, "nested too deeply", "use fewer levels"),))
    return Document(_node(data, (), _places(text)))


def _syntax(message: str, text: str) -> SyntaxProblem:
    found = _WHERE.search(message)
    end = text.rstrip()
    place = Position(end.count("\n") + 1, len(end) - end.rfind("\n"))
    if found and found[1]:
        place = Position(int(found[1]), int(found[2]))
    problem = _WHERE.sub("", message)
    advice = (
        "keep one of the two"
        if "overwrite" in problem or "twice" in problem
        else "write key = value, texts in quotes"
    )
    return SyntaxProblem(place, f"not TOML: {problem[:1].lower()}{problem[1:]}", advice)


def _places(text: str) -> dict[_Path, Position]:
    """Where each key and table header stands. A value in several lines is where its key is."""
    places: dict[_Path, Position] = {}
    table: _Path = ()
    counts: dict[_Path, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        found = _LINE.match(line)
        if found is None:
            continue
        place = Position(number, len(line) - len(line.lstrip()) + 1)
        if found["key"]:
            places.setdefault((*table, *_parts(found["key"])), place)
            continue
        table = _header(found, counts)
        places.setdefault(table, place)
    return places


def _header(found: re.Match[str], counts: dict[_Path, int]) -> _Path:
    """The path of `[a.b]` or `[[a.b]]`: a list on the way means its newest item."""
    path: _Path = ()
    parts = _parts(found["item"] or found["table"])
    for part in parts[:-1]:
        path = (*path, part)
        path = (*path, counts[path] - 1) if path in counts else path
    path = (*path, parts[-1])
    if found["item"]:
        counts[path] = counts.get(path, 0) + 1
        return (*path, counts[path] - 1)
    return path


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, dotted)]


def _node(value: Any, path: _Path, places: Mapping[_Path, Position]) -> Node:
    place = _nearest(path, places)
    if isinstance(value, dict):
        return Node(
            place, members=tuple(_member(key, item, (*path, key), places) for key, item in value.items())
        )
    if isinstance(value, list):
        return Node(place, items=tuple(_node(item, (*path, at), places) for at, item in enumerate(value)))
    return Node(place, value)


def _member(key: str, value: Any, path: _Path, places: Mapping[_Path, Position]) -> Member:
    return Member(key, _nearest(path, places), _node(value, path, places))


def _nearest(path: _Path, places: Mapping[_Path, Position]) -> Position:
    return next((places[path[:end]] for end in range(len(path), -1, -1) if path[:end] in places), _START)
