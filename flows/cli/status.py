"""`status`: whether the mirror is what the profile wants, by entry and by tag, from the store alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flows.entries import find_entry, open_store_if_present, shards_of
from flows.reporting.console import out, say
from flows.reporting.entry_status import EntryState, EntryStatus, entry_statuses, new_repositories
from flows.reporting.last_runs import last_runs
from flows.reporting.status_tables import render_counts, render_entries, render_tags
from flows.reporting.tag_status import TagStatus, tag_statuses
from tasks.stored.images import StoredImages, count_by_entry

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from profiles.loader import LoadedProfile
    from profiles.model.sync import RegistryEntry
    from registry_server.store.store import Store
    from tasks.stored.images import Standing


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """`has_store`: False before the first run. `policies`: images that fall short, by registry entry."""

    profile: Path
    root: Path
    now: float
    has_store: bool
    entries: Sequence[EntryStatus]
    tags: Sequence[TagStatus] = ()
    policies: Mapping[str, Counter[Standing]] | None = None

    @property
    def is_complete(self) -> bool:
        entries = all(each.in_place for each in self.entries)
        return self.has_store and entries and all(each.in_place for each in self.tags)

    def only_problems(self) -> MirrorStatus:
        return replace(self, tags=[tag for tag in self.tags if not tag.in_place])

    def to_json(self) -> dict[str, Any]:
        return {
            "complete": self.is_complete,
            "entries": [each.to_json() for each in self.entries],
            "runs": [report for each in self.entries if each.last for report in each.last.reports],
            "policies": self.policies or {},
            "tags": [tag.to_json() for tag in self.tags],
        }


def mirror_status(loaded: LoadedProfile, registry: str | None, now: float) -> MirrorStatus:
    """Of all registry entries, or of one; `now` in Unix seconds. Raises `NotWanted`, `StoreError`."""
    profile = loaded.profile
    wanted = profile.sync.registries if registry is None else (find_entry(profile, registry),)
    store = open_store_if_present(profile)
    runs = last_runs(store.reports.load_all(), shards_of(profile)) if store else {}
    found = MirrorStatus(
        profile=loaded.path,
        root=profile.storage.root_directory,
        now=now,
        has_store=store is not None,
        entries=entry_statuses(profile, wanted, runs, now),
    )
    if store is None:
        return found
    short = StoredImages(profile, store).shortfalls()
    names = profile.entry_names()
    rows = tag_statuses(store, registry, short=short, entries=names, now=now)
    tags = [*_of_entries(rows, names), *_new(store, wanted, found.entries)]
    return replace(found, root=store.root, tags=tags, policies=count_by_entry(short))


def _of_entries(rows: Iterator[TagStatus], names: Sequence[str]) -> Iterator[TagStatus]:
    """Of an entry that left the profile only what is stored: its problems are none of the profile's."""
    for row in rows:
        if row.in_place or not row.registry or row.registry in names:
            yield row
        elif row.stored_digest:
            yield replace(row, problem="")


def _new(
    store: Store, entries: Sequence[RegistryEntry], statuses: Sequence[EntryStatus]
) -> Iterator[TagStatus]:
    """An entry that did not succeed says so itself."""
    for entry, status in zip(entries, statuses, strict=True):
        if status.state in {EntryState.COMPLETE, EntryState.OVERDUE}:
            yield from new_repositories(store, entry)


def print_status(status: MirrorStatus, *, limit: int | None) -> None:
    """`limit`: beyond as many tags, those that are in place are not listed."""
    if not status.has_store:
        say(f"there is no store at {status.root} yet: run `mirrorflow sync {status.profile}` to make it")
    out.print(render_entries(status.root, status.entries, status.now))
    for line in render_counts(status.policies or {}):
        out.print(line)
    long = limit is not None and len(status.tags) > limit
    shown = [tag for tag in status.tags if _is_remarkable(tag)] if long else status.tags
    if shown:
        out.print(render_tags(shown, status.now))
    if len(shown) < len(status.tags):
        left = len(status.tags) - len(shown)
        say(f"{left:,} tags that are in place are not listed; --all lists them")
    if status.is_complete:
        out.print("everything that the profile wants is in place", style="green")


def _is_remarkable(tag: TagStatus) -> bool:
    return bool(not tag.in_place or tag.held_back or tag.gone_since)
