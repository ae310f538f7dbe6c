"""JSON that two parsers cannot understand differently."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.errors import ManifestInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MAX_DEPTH: Final = 32
_SHOWN: Final = 100


def load_object(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is. Raises `ManifestInvalid`."""
    try:
        document = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unambiguous, parse_constant=_no_constant
        )
    except UnicodeDecodeError as error:
        raise ManifestInvalid(f"the manifest is not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ManifestInvalid(
            f"the manifest is not JSON: {error.msg}, line {error.lineno} column {error.colno}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise ManifestInvalid(f"the manifest cannot be read as JSON: {type(error).__name__}") from error
    if not isinstance(document, dict):
        raise ManifestInvalid(f"the manifest is a JSON {type(document).__name__}; expected an object")
    _check_depth(document)
    return document


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ManifestInvalid(f"the key {shown(key)} stands twice in one object of the manifest")
        found[key] = value
    return found


def _no_constant(name: str) -> None:
    raise ManifestInvalid(f"the manifest is not JSON: it has the value {name}")


def _check_depth(document: Mapping[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        values = (value for node in level for value in (node.values() if isinstance(node, dict) else node))
        level = [value for value in values if isinstance(value, dict | list)]
        if not level:
            return
    raise ManifestInvalid(f"the manifest is nested more than {_MAX_DEPTH} levels deep")


def refuse_case_variants(document: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    """Go finds `layers` under `Layers` and `layer\u017f` too, Python does not: one body, two readings."""
    if len(document.keys() - keys) == 0:
        return
    wanted = {key.casefold(): key for key in keys}
    for key in document:
        if wanted.get(key.casefold(), key) != key:
            raise ManifestInvalid(f"{where} has the key {key!r}; write {wanted[key.casefold()]!r}")


def shown(found: Any) -> str:
    """For an error message: not more than a line of it."""
    text = repr(found)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
