"""Changing signed documents, one leaf at a time."""

from __future__ import annotations

import base64
import binascii
import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str | int, ...]


def leaves(document: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is no object and no list, and where it stands."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from leaves(value, (*path, key))
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from leaves(value, (*path, number))
    else:
        yield path, document


def mutants(document: dict[str, Any], ways: int = 100) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each leaf changed in up to so many ways, and each taken away; by the leaf's path."""
    for path, value in leaves(document):
        name = ".".join(str(part) for part in path if not isinstance(part, int))
        found = list(changes(value))
        for _, changed in found[:: max(1, len(found) // ways)]:
            yield name, _with(document, path, changed)
        yield name, _without(document, path)


def changes(value: Any) -> Iterator[tuple[str, Any]]:
    """Other values of the same kind; base64 stays base64 and changes what it says."""
    if isinstance(value, bool):
        yield "negated", not value
    elif isinstance(value, int):
        yield "+1", value + 1
    elif isinstance(value, bytes):
        yield from _bytes(value)
    elif isinstance(value, str):
        yield from _text(value)


def _text(value: str) -> Iterator[tuple[str, str]]:
    if value.isdecimal():
        yield "+1", str(int(value) + 1)
        return
    for how, changed in _bytes(_decoded(value) or b""):
        yield how, base64.b64encode(changed).decode()
    for at in sorted({0, len(value) // 3, len(value) // 2, len(value) - 1}) if value else ():
        yield f"letter {at}", value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]


def _decoded(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if len(value) >= 8 else None
    except (binascii.Error, ValueError):
        return None


def _bytes(value: bytes) -> Iterator[tuple[str, bytes]]:
    """One bit at the beginning, near it, in the middle, near the end, at the end; one byte more, one less."""
    if not value:
        return
    size = len(value)
    for at in sorted({0, min(9, size - 1), size // 3, size // 2, size - 2 if size > 1 else 0, size - 1}):
        yield f"byte {at} flipped", value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
    yield "longer", value + b"\0"
    yield "shorter", value[:-1]


def _with(document: Any, path: Path, value: Any) -> Any:
    found = copy.deepcopy(document)
    _parent(found, path)[path[-1]] = value
    return found


def _without(document: Any, path: Path) -> Any:
    found = copy.deepcopy(document)
    del _parent(found, path)[path[-1]]
    return found


def _parent(document: Any, path: Path) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document
