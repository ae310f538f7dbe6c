"""From a loaded profile to what commands and flows work on: registry entries, their parts, the store."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from profiles.model.destination import STORE
from registry_server.store.errors import StoreMissing
from registry_server.store.mirror_state.ledger import open_ledger
from registry_server.store.store import Store
from tasks.run.errors import NotWanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry
    from profiles.values.shard import Shard


def find_entry(profile: Profile, name: str) -> RegistryEntry:
    """The entry of that name. Raises `NotWanted` naming those that there are."""
    for entry in profile.sync.registries:
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in profile.sync.registries) or "none"
    raise NotWanted(f"the profile has no registry entry {name!r}; it has: {names}")


def selected_entries(profile: Profile, names: Sequence[str] | None) -> list[RegistryEntry]:
    """Those that were named, or all that are mirrored whole. Raises `NotWanted`."""
    if names:
        return [find_entry(profile, name) for name in names]
    entries = profile.sync.registries if profile.sync.enable else ()
    if chosen := [entry for entry in entries if entry.is_synced]:
        return chosen
    if left := only_on_demand(profile):
        raise NotWanted(
            f"the profile has nothing to sync by itself: {', '.join(left)} is only fetched on demand; "
            f"to mirror everything that its rules take, add '--registry {left[0]}'"
        )
    raise NotWanted(
        "the profile has nothing to sync: no registry entry with content rules, or `sync.enable: false`"
    )


def only_on_demand(profile: Profile) -> list[str]:
    """The names of entries that a sync could mirror whole and does not, because clients ask for them."""
    entries = profile.sync.registries if profile.sync.enable else ()
    return [entry.name for entry in entries if entry.content and not entry.is_synced]


def shards_of(profile: Profile) -> dict[str, int]:
    """How many shards each registry entry has."""
    return {entry.name: entry.shards for entry in profile.sync.registries}


def open_store_if_present(profile: Profile) -> Store | None:
    """The store that the profile names, if it is there. Raises `StoreError`."""
    try:
        return open_store(profile, create=False)
    except StoreMissing:
        return None


def open_store(profile: Profile, *, create: bool = True) -> Store:
    """The store that the profile names. Raises `StoreError`."""
    storage = profile.storage
    return Store.open(
        storage.root_directory,
        subpaths=storage.roots(),
        durability=storage.durability,
        create=create,
        shared_file_system=storage.shared_file_system,
        remote=storage.remote(),
    )


def store_uuid(profile: Profile) -> str:
    """Of the store, for a process that forks others later. Raises `StoreError`.

    A child opens a store in object storage: the threads of its client would be missing in other children.
    """
    if profile.storage.remote() is None:
        return open_store(profile).uuid
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as child:
        return child.submit(_uuid, profile).result()


def _uuid(profile: Profile) -> str:
    return open_store(profile).uuid


def ledgers_of(profile: Profile, store: Store) -> dict[str, Store]:
    """What is remembered of each destination of the profile that something was written to, by its name."""
    found: dict[str, Store] = {}
    for each in profile.destinations:
        with suppress(StoreMissing):
            found[each.name] = open_ledger(store.root, each.ledger, profile.storage.durability, create=False)
    return found


def state_of(profile: Profile, entry: RegistryEntry, store: Store) -> Store:
    """Where the polls of an entry remember what they saw: in the store, or for its first destination."""
    if STORE in entry.to:
        return store
    return ledgers_of(profile, store).get(entry.to[0], store)


def part_name(registry: str, shard: Shard | None) -> str:
    """What the deployment of a part of a registry entry is called: `docker-hub`, or `docker-hub:2-of-4`.

    The name of an entry has no colon, so no two parts share a name. Prefect allows no slash in a name.
    """
    return registry if shard is None else f"{registry}:{shard.number}-of-{shard.of}"


def run_name(part: str) -> str:
    """What a run of a part is called, before and after it starts."""
    return f"mirror {part}"
