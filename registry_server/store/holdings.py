"""Which manifests a repository holds, tagged or not: for who must know what belongs to what."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from registry_server.store import disk as files
from registry_server.store.errors import translated

if TYPE_CHECKING:
    from registry_server.store.repository import Repository


@translated
def held_manifests(repository: Repository) -> list[Digest]:
    """All of them, in no order; empty for a repository that is not here."""
    found = []
    for name in files.names(_folder(repository)):
        try:
            found.append(Digest(name.replace("-", ":", 1)))
        except InvalidName:
            continue
    return found


@translated
def manifests_changed(repository: Repository) -> int:
    """A number that is another one when a manifest was added or removed; 0: there is no repository."""
    try:
        return os.stat(_folder(repository)).st_mtime_ns  # noqa: PTH116 - like all of the store: texts, not paths
    except FileNotFoundError:
        return 0


def _folder(repository: Repository) -> str:
    return f"{repository._folder}/manifests"  # noqa: SLF001 - a part of the store that reads what another writes
