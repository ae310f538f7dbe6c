"""`mirrorflow store prune` and `undelete`: tags that upstreams have deleted, in words."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.entries import find_entry
from registry_server.counted import counted
from registry_server.oci.reference import ImageName, Tag
from registry_server.store.errors import NothingToUndelete
from registry_server.store.mirror_state.pruned_tags import all_pruned, forget_useless
from tasks.stored.pruning import decide, remove, undelete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from profiles.model.profile import Profile
    from registry_server.store.store import Store


def prune_entries(
    profile: Profile, store: Store, names: Sequence[str] | None, *, yes: bool, told: Callable[[str], None]
) -> int:
    """Say what goes, and with `yes` remove it; how many tags are left that should go.

    Raises `NotWanted`, `StoreError`.
    """
    entries = [find_entry(profile, name) for name in names] if names else profile.sync.registries
    left = 0
    for entry in entries:
        found = decide(store, entry, beyond_share=yes)
        for each in (*found.doomed, *found.spared):
            told(f"{each.name}: gone upstream since {_moment(each.since)}")
        for note in found.notes:
            told(note)
        if yes:
            removed = remove(store, found.doomed, time.time())
            told(f"{entry.name}: {counted(len(removed), 'tag')} removed")
        else:
            left += len(found.doomed) + len(found.spared)
    return left


def list_pruned(store: Store) -> Iterator[str]:
    """What can be brought back. Raises `StoreError`."""
    forget_useless(store, time.time())
    for name, tag, found in all_pruned(store):
        if store.repository(name).tag(tag) is None:
            yield f"{name}:{tag}: {found.record.digest}, removed {_moment(found.removed)}"


def undelete_images(profile: Profile, store: Store, images: Sequence[str]) -> Iterator[str]:
    """Raises `NothingToUndelete`, `InvalidName`, `StoreError`."""
    for text in images:
        image = ImageName.parse(text)
        if not isinstance(image.reference, Tag):
            raise NothingToUndelete(f"{image} names a digest; write the tag that was removed")
        for name in undelete(profile, store, image.repository, image.reference):
            yield f"{name} is restored"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
