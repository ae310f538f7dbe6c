"""From a loaded profile to what commands and flows work on: registry entries, and the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.store.errors import StoreMissing
from registry_server.store.store import Store
from tasks.errors import NotWanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.model import Profile
    from profiles.sync import RegistryEntry


def find_entry(profile: Profile, name: str) -> RegistryEntry:
    """The entry of that name. Raises `NotWanted` naming those that there are."""
    for entry in profile.sync.registries:
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in profile.sync.registries) or "none"
    raise NotWanted(f"the profile has no registry entry {name!r}; it has: {names}")


def chosen_entries(profile: Profile, names: Sequence[str] | None) -> list[RegistryEntry]:
    """Those that were named, or all that a sync can fill: with content rules. Raises `NotWanted`."""
    if names:
        return [find_entry(profile, name) for name in names]
    entries = [entry for entry in profile.sync.registries if entry.content] if profile.sync.enable else []
    if not entries:
        raise NotWanted(
            "the profile has nothing to sync: no registry entry with content rules, or `sync.enable: false`"
        )
    return entries


def stored_or_none(profile: Profile) -> Store | None:
    """The store that the profile names, if it is there. Raises `StoreError`."""
    try:
        return open_store(profile, create=False)
    except StoreMissing:
        return None


def open_store(profile: Profile, *, create: bool = True) -> Store:
    """The store that the profile names. Raises `StoreError`."""
    storage = profile.storage
    return Store.open(
        storage.root_directory, subpaths=storage.roots(), durability=storage.durability, create=create
    )
