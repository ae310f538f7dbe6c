"""`mirrorflow store prune` and `undelete`: tags that upstreams have deleted, in words."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from flows.entries import find_entry
from flows.maintenance.operator_audit import OperatorAudit
from registry_server.counted import counted
from registry_server.oci.reference import ImageName, Tag
from registry_server.store.errors import NothingToUndelete
from registry_server.store.mirror_state.pruned_tags import all_pruned, forget_useless
from tasks.context.mirror_run import open_run
from tasks.stored.pruning import decide, remove, remove_elsewhere, undelete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from profiles.model.profile import Profile
    from registry_server.store.store import Store
    from tasks.context.mirror_run import MirrorRun


def prune_entries(
    profile: Profile, store: Store, names: Sequence[str] | None, *, yes: bool, told: Callable[[str], None]
) -> int:
    """Say what goes, and with `yes` remove it; how many tags are left that should go.

    Raises `NotWanted`, `StoreError`, `DestinationFailed`, `AuditUnusable`.
    """
    audit = OperatorAudit.of(profile)
    entries = [find_entry(profile, name) for name in names] if names else profile.sync.registries
    left = 0
    for entry in entries:
        with open_run(profile, entry, store) as run:
            left += prune_run(run, audit, yes=yes, told=told)
    return left


def prune_run(run: MirrorRun, audit: OperatorAudit, *, yes: bool, told: Callable[[str], None]) -> int:
    """One entry, wherever its images go."""
    found = decide(run.store, run.entry, beyond_share=yes)
    for each in (*found.doomed, *found.spared):
        told(f"{each.name}: gone upstream since {_moment(each.since)}")
    for note in found.notes:
        told(note)
    if not yes:
        return len(found.doomed) + len(found.spared)
    removed = remove(run.store, found.doomed, time.time(), elsewhere=partial(remove_elsewhere, run))
    audit.pruned(removed, run.entry.name)
    for remark in run.live.take_remarks():
        told(remark)
    told(f"{run.entry.name}: {counted(len(removed), 'tag')} removed")
    return 0


def list_pruned(store: Store) -> Iterator[str]:
    """What can be brought back. Raises `StoreError`."""
    forget_useless(store, time.time())
    for name, tag, found in all_pruned(store):
        if store.repository(name).tag(tag) is None:
            yield f"{name}:{tag}: {found.record.digest}, removed {_moment(found.removed)}"


def undelete_images(profile: Profile, store: Store, images: Sequence[str]) -> Iterator[str]:
    """Raises `NothingToUndelete`, `InvalidName`, `StoreError`, `AuditUnusable`."""
    audit = OperatorAudit.of(profile)
    for text in images:
        image = ImageName.parse(text)
        if not isinstance(image.reference, Tag):
            raise NothingToUndelete(f"{image} names a digest; write the tag that was removed")
        restored = undelete(profile, store, image.repository, image.reference)
        audit.brought("restore", store, restored)
        yield from (f"{name} is restored" for name in restored)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
