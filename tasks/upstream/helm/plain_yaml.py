"""YAML of strangers: mappings, lists and texts, and nothing that grows or makes objects.

Aliases are refused (billion laughs), and there is a limit to nodes and to depth. A scalar stays the text that
it was: a version 1.10 is not the number 1.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_NODES = 5_000_000  # a large index has some 500,000
_DEEPEST = 64
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PlainYamlInvalid(MirrorflowError):
    """Text that is no YAML, or YAML that nobody has to write."""


def load_plain(body: bytes) -> Any:
    """The first document: dict, list, str or None. Raises `PlainYamlInvalid`."""
    try:
        events = _counted(yaml.parse(body, Loader=_LOADER))
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                return _node(next(events), events, 0)
    except yaml.YAMLError as error:
        raise PlainYamlInvalid(f"not YAML: {' '.join(str(error).split())[:200]}") from error
    except UnicodeError as error:
        raise PlainYamlInvalid("not text in UTF-8") from error
    return None


def _counted(events: Iterator[Any]) -> Iterator[Any]:
    for number, event in enumerate(events):
        if number > MOST_NODES:
            raise PlainYamlInvalid(f"more than {MOST_NODES} nodes")
        yield event


def _node(event: Any, events: Iterator[Any], depth: int) -> Any:
    if depth > _DEEPEST:
        raise PlainYamlInvalid(f"nested deeper than {_DEEPEST}")
    if isinstance(event, yaml.ScalarEvent):
        return None if event.implicit[0] and event.value in _NULLS else event.value
    if isinstance(event, yaml.SequenceStartEvent):
        return _list(events, depth)
    if isinstance(event, yaml.MappingStartEvent):
        return _mapping(events, depth)
    raise PlainYamlInvalid("aliases (`*name`) are not accepted")


def _list(events: Iterator[Any], depth: int) -> list[Any]:
    found = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        found.append(_node(event, events, depth + 1))
    return found


def _mapping(events: Iterator[Any], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        if not isinstance(event, yaml.ScalarEvent):
            raise PlainYamlInvalid("a key that is not a text")
        found[event.value] = _node(next(events), events, depth + 1)
    return found
