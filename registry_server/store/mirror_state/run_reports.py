"""Reports of runs: JSON files by registry entry, the newest kept.

A run for some images only (`only` is not empty) has a file name of its own kind. Many of them, as pushes
upstream cause, must not displace the last run over the whole entry: `status` needs that one.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from registry_server.store import records
from registry_server.store.errors import StoreError, translated
from registry_server.store.filesystem import disk as files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.store.filesystem.disk import Disk

KEPT: Final = 200
"""Of each registry entry: so many runs over all of it, and as many for some images only."""
_PARTIAL: Final = ".partial.json"


class Reports:
    """`reports/<registry entry>/<utc time>-<id>[.partial].json` in the main root."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._root = f"{disk.root}/reports"

    @translated
    def save(self, name: str, document: Mapping[str, Any]) -> Path:
        """Keep the report of a run of the registry entry `name`; the oldest of its kind beyond 200 go."""
        folder, partial = self._folder(name), bool(document.get("only"))
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path = f"{folder}/{stamp}-{secrets.token_hex(4)}{_PARTIAL if partial else '.json'}"
        self._disk.write(path, json.dumps(document, indent=1).encode() + b"\n")
        alike = [each for each in _reports_in(folder) if each.endswith(_PARTIAL) == partial]
        for old in alike[:-KEPT]:
            files.remove(f"{folder}/{old}")
        return Path(path)

    @translated
    def load_all(self, registry: str | None = None) -> list[dict[str, Any]]:
        """Oldest first; of one registry entry, or of all."""
        entries = [quote(registry, safe="")] if registry is not None else files.names(self._root)
        paths = [
            f"{self._root}/{entry}/{name}"
            for entry in entries
            for name in _reports_in(f"{self._root}/{entry}")
        ]
        paths.sort(key=lambda path: path.rpartition("/")[2])
        found = (records.decoded(files.read(path), dict) for path in paths)
        return [document for document in found if document is not None]

    def _folder(self, name: str) -> str:
        if name.strip(".") == "":
            raise StoreError(f"{name!r} cannot name a registry entry's reports; give the entry a `name`")
        return f"{self._root}/{quote(name, safe='')}"


def _reports_in(folder: str) -> list[str]:
    return sorted(name for name in files.names(folder) if name.endswith(".json"))
