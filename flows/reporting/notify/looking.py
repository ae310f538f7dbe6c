"""What there is to tell, from the store and the profile alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flows.entries import shards_of
from flows.reporting.entry_status import entry_statuses, oldest_known
from flows.reporting.last_runs import last_runs
from flows.reporting.mirror_status import wanted_tags
from flows.reporting.notify.conditions import (
    Look,
    moved_in,
    of_entries,
    of_stored,
    refused_in_reports,
    stopped_keys,
)
from profiles.model.notify import NotifyEvent
from tasks.stored.images import StoredImages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.reporting.entry_status import EntryStatus
    from flows.reporting.notify.told import Told
    from profiles.model.profile import Profile
    from registry_server.store.store import Store


def look_at(profile: Profile, store: Store, now: float) -> Look:
    """All conditions of the registry entries of the profile. `now` in Unix seconds. Raises `StoreError`."""
    entries = {entry.name: entry for entry in profile.sync.registries}
    reports = [each for each in store.reports.load_all() if each["registry"] in entries]
    runs = last_runs(reports, shards_of(profile))
    statuses = entry_statuses(profile, profile.sync.registries, runs, now)
    known = _known(profile, store, statuses, now)
    conditions = {each.key: each for each in of_entries(statuses, entries, known, now)}
    conditions |= refused_in_reports(reports)
    conditions |= {each.key: each for each in of_stored(StoredImages(profile, store).shortfalls())}
    return Look(conditions, frozenset(stopped_keys(statuses)))


def _known(
    profile: Profile, store: Store, statuses: Sequence[EntryStatus], now: float
) -> Mapping[str, float]:
    """Every tag is looked at for it, which takes seconds, so only for entries that have an objective."""
    limited = {entry.name for entry in profile.sync.registries if entry.objective.max_lag is not None}
    if not limited or not any(NotifyEvent.OBJECTIVE_MISSED in each.events for each in profile.notify):
        return {}
    rows = wanted_tags(profile, store, statuses, (), now)
    return oldest_known(row for row in rows if row.registry in limited)


def with_moved(look: Look, store: Store, told: Told) -> Look:
    """With the tags that moved since a receiver was told of some. Raises `StoreError`."""
    reports = store.reports.after(told.seen)
    seen = {**told.seen, **{part: name for part, name, _ in reports}}
    return replace(look, moved=moved_in(report for _, _, report in reports), seen=seen)
