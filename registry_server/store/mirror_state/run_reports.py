"""Reports of runs: JSON files by registry entry, the newest kept.

A run for some images only (`only` is not empty) has a file name of its own kind. Many of them, as pushes
upstream cause, must not displace the last run over the whole entry: `status` needs that one.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from registry_server.store import records
from registry_server.store.errors import StoreError, translated
from registry_server.store.objects.objects import content_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.store.objects.objects import Objects

KEPT: Final = 200
"""Of each registry entry: so many runs over all of it, and as many for some images only."""
_ROOT: Final = "reports"
_PARTIAL: Final = ".partial.json"


class Reports:
    """`reports/<registry entry>/<utc time>-<id>[.partial].json` in the main root."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @translated
    def save(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep the report of a run of the registry entry `name`; the oldest of its kind beyond 200 go."""
        folder, partial = _folder(name), bool(document.get("only"))
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        key = f"{folder}/{stamp}-{secrets.token_hex(4)}{_PARTIAL if partial else '.json'}"
        self._objects.put(key, json.dumps(document, indent=1).encode() + b"\n")
        named = sorted(each for each in self._objects.names(folder).objects if each.endswith(".json"))
        alike = [each for each in named if each.endswith(_PARTIAL) == partial]
        self._objects.remove(*(f"{folder}/{old}" for old in alike[:-KEPT]))

    @translated
    def load_all(self, registry: str | None = None) -> list[dict[str, Any]]:
        """Oldest first; of one registry entry, or of all."""
        entries = self._objects.names(_ROOT).folders if registry is None else (quote(registry, safe=""),)
        named = [
            (name, content)
            for entry in entries
            for name, content in self._objects.contents(f"{_ROOT}/{entry}")
            if name.endswith(".json")
        ]
        named.sort(key=lambda each: each[0])
        found = (records.decoded(content, dict) for _, content in named)
        return [document for document in found if document is not None]

    @translated
    def after(self, seen: Mapping[str, str]) -> list[tuple[str, str, dict[str, Any]]]:
        """What was kept since: of what, the name of its file, and the report, oldest first.

        `seen` has the name of the last one that is known; of what it does not name, only the newest is given.
        """
        found = []
        for name in self.names():
            folder, last = _folder(name), seen.get(name)
            files = sorted(each for each in self._objects.names(folder).objects if each.endswith(".json"))
            for file in files[-1:] if last is None else [each for each in files if each > last]:
                document = records.decoded(content_of(self._objects, f"{folder}/{file}"), dict)
                found += [(name, file, document)] if document is not None else []
        return sorted(found, key=lambda each: each[1])

    @translated
    def version(self) -> str:
        """Another text once a report was kept or discarded."""
        folders = self._objects.names(_ROOT).folders
        return " ".join(self._objects.folder_version(f"{_ROOT}/{each}") for each in folders)

    @translated
    def names(self) -> list[str]:
        """Of what there are reports, in the words of `save`."""
        folders = self._objects.names(_ROOT).folders
        return sorted(unquote(each) for each in folders if self._objects.has_objects(f"{_ROOT}/{each}"))

    @translated
    def discard(self, name: str) -> None:
        """All reports of `name`; nothing where there are none."""
        folder = _folder(name)
        self._objects.remove(*(f"{folder}/{each}" for each in self._objects.names(folder).objects))


def _folder(name: str) -> str:
    if name.strip(".") == "":
        raise StoreError(f"{name!r} cannot name a registry entry's reports; give the entry a `name`")
    return f"{_ROOT}/{quote(name, safe='')}"
