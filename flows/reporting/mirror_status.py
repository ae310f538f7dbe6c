"""Whether the mirror is what the profile wants, by entry and by tag, from the store alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flows.entries import find_entry, ledgers_of, open_store_if_present, shards_of, state_of
from flows.reporting.entry_status import (
    EntryState,
    EntryStatus,
    entry_statuses,
    judged_by_objective,
    new_repositories,
    oldest_known,
)
from flows.reporting.last_runs import last_runs
from flows.reporting.tag_status import TagStatus, repository_tags, tag_statuses
from profiles.matching import sources
from registry_server.oci.reference import RepositoryName
from tasks.stored.images import StoredImages, count_by_entry

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from profiles.loader import LoadedProfile
    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry
    from registry_server.store.store import Store
    from tasks.stored.images import Standing, StoredImage


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """`has_store`: False before the first run. `policies`: images that fall short, by registry entry."""

    profile: Path
    store: str
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
    entries = entries_of(profile, store, wanted, now)
    if store is None:
        return MirrorStatus(loaded.path, profile.storage.where, now, has_store=False, entries=entries)
    short = StoredImages(profile, store).shortfalls()
    tags = list(wanted_tags(profile, store, entries, short, now, registry=registry))
    entries = judged_by_objective(profile, entries, oldest_known(tags), now)
    return MirrorStatus(
        loaded.path,
        store.where,
        now,
        has_store=True,
        entries=entries,
        tags=tags,
        policies=count_by_entry(short),
    )


def entries_of(
    profile: Profile, store: Store | None, wanted: Sequence[RegistryEntry], now: float
) -> list[EntryStatus]:
    """By the reports of the store. Raises `StoreError`."""
    runs = last_runs(store.reports.load_all(), shards_of(profile)) if store else {}
    return entry_statuses(profile, wanted, runs, now)


def wanted_tags(
    profile: Profile,
    store: Store,
    entries: Iterable[EntryStatus],
    short: Iterable[StoredImage],
    now: float,
    *,
    registry: str | None = None,
) -> Iterator[TagStatus]:
    """All that is stored or wanted, repository by repository, then what no run has looked at yet.

    `short`: see `tag_statuses`. Raises `StoreError`.
    """
    names, owners = profile.entry_names(), _Owners(profile, registry)
    yield from owners.rows(tag_statuses(store, registry, short=short, entries=names, now=now))
    for name, ledger in ledgers_of(profile, store).items():
        there = owners.rows(tag_statuses(ledger, registry, entries=names, now=now))
        yield from (replace(row, destination=name) for row in there)
    for status in entries:
        if status.state in {EntryState.COMPLETE, EntryState.OVERDUE}:  # others say themselves what they lack
            entry = find_entry(profile, status.registry)
            yield from new_repositories(state_of(profile, entry, store), entry)


def tags_of(profile: Profile, store: Store, name: RepositoryName, now: float) -> list[TagStatus]:
    """What `wanted_tags` says of one repository that is in the store or in a destination, or was polled."""
    images, names = StoredImages(profile, store), profile.entry_names()
    short = [each for each in images.in_areas(name) if each.problem] if images else []
    owners = _Owners(profile)
    found = [*owners.rows(repository_tags(store, name, short=short, entries=names, now=now))]
    for destination, ledger in ledgers_of(profile, store).items():
        there = owners.rows(repository_tags(ledger, name, entries=names, now=now))
        found += [replace(row, destination=destination) for row in there]
    return found


@dataclass(slots=True)
class _Owners:
    """Whose tags these are: of the entry that brings what is under their name, where the profile has it.

    What was promoted keeps its origin, and no poll looks at it: it is of no entry, as what clients push.
    """

    profile: Profile
    registry: str | None = None
    _brings: dict[tuple[str, str], bool] = field(default_factory=dict)

    def rows(self, rows: Iterable[TagStatus]) -> Iterator[TagStatus]:
        """Of an entry that left the profile only what is stored: its problems are none of the profile's."""
        names = self.profile.entry_names()
        for row in rows:
            if row.registry in names and not self._brought(row):
                if self.registry is None:
                    yield replace(row, registry="")
            elif row.in_place or not row.registry or row.registry in names:
                yield row
            elif row.stored_digest:
                yield replace(row, problem="")

    def _brought(self, row: TagStatus) -> bool:
        key = row.registry, row.repository
        if key not in self._brings:
            entry = find_entry(self.profile, row.registry)
            self._brings[key] = not entry.content or bool(sources(entry, RepositoryName(row.repository)))
        return self._brings[key]
