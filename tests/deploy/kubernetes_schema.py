"""Checks objects against Kubernetes' OpenAPI document: no unknown field, no wrong type, nothing missing.

It is not in the repository: `go mod download k8s.io/kubernetes@v1.31.4` puts it into Go's module cache.
MIRRORFLOW_KUBERNETES_OPENAPI names another place.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_CACHE = "pkg/mod/k8s.io/kubernetes@*/api/openapi-spec/swagger.json"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}
_ANY = {"int-or-string": (int, str), "quantity": (int, float, str)}


def find_document() -> Path | None:
    if named := os.environ.get("MIRRORFLOW_KUBERNETES_OPENAPI"):
        return Path(named)
    home = Path(os.environ.get("GOPATH") or Path.home() / "go")
    return next(iter(sorted(home.glob(_CACHE), reverse=True)), None)


class KubernetesSchema:
    def __init__(self, path: Path) -> None:
        self._definitions = json.loads(path.read_text())["definitions"]
        self._kinds = {
            (each["group"], each["version"], each["kind"]): name
            for name, definition in self._definitions.items()
            for each in definition.get("x-kubernetes-group-version-kind", ())
        }

    def problems(self, document: dict[str, Any]) -> list[str]:
        """One line for each, with its place; a kind that Kubernetes does not have is one."""
        group, _, version = document["apiVersion"].rpartition("/")
        name = self._kinds.get((group, version, document["kind"]))
        if name is None:
            return [f"{document['apiVersion']} {document['kind']}: no such kind"]
        return list(self._check({"$ref": f"#/definitions/{name}"}, document, document["kind"]))

    def _check(self, schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
        if reference := schema.get("$ref"):
            name = reference.rpartition("/")[2]
            if name.endswith("api.resource.Quantity"):
                schema = {"format": "quantity"}
            else:
                schema = self._definitions[name]
        if value is None:
            return
        wanted = _ANY.get(schema.get("format", "")) or _TYPES.get(schema.get("type", ""))
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is int)):
            yield f"{where}: {value!r} is no {schema.get('type')}"
            return
        yield from self._below(schema, value, where)

    def _below(self, schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield from self._check(schema.get("items", {}), item, f"{where}[{number}]")
        if isinstance(value, dict) and (known := schema.get("properties")) is not None:
            yield from (
                f"{where}: {key} is missing" for key in schema.get("required", ()) if key not in value
            )
            for key, below in value.items():
                if key in known:
                    yield from self._check(known[key], below, f"{where}.{key}")
                else:
                    yield f"{where}: {key} is not known"
        elif isinstance(value, dict) and isinstance(more := schema.get("additionalProperties"), dict):
            for key, below in value.items():
                yield from self._check(more, below, f"{where}.{key}")
