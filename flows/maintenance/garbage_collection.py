"""Looking after the store that a profile names: garbage collection, by hand and on schedule."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from profiles.matching import listed_references, literal_repositories, local_name
from registry_server.counted import counted
from registry_server.human_units import human_bytes
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import StoreLocked
from registry_server.store.gc.collector import Care, collect, last_report
from registry_server.store.mirror_state.ledger_sweep import sweep_ledgers
from registry_server.store.mirror_state.tag_switch import drop_old
from tasks.on_demand.eviction import evict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from profiles.model.profile import Profile
    from registry_server.store.gc.gc_report import GcReport, Removal
    from registry_server.store.gc.retention import GcOptions
    from registry_server.store.store import Store

_POLL_INTERVAL: Final = 15.0  # seconds between two looks at what is due


def pinned_digests(profile: Profile) -> dict[str, set[str]]:
    """The digests that content rules list, by the repository that they land in: they have no tag."""
    found: dict[str, set[str]] = {}
    for entry in profile.sync.registries:
        for rule in entry.content:
            for upstream in literal_repositories(rule) if rule.images else ():
                digests = {
                    str(each) for each in listed_references(rule, upstream) if isinstance(each, Digest)
                }
                local = local_name(rule, upstream)
                if local is not None and digests:
                    found.setdefault(local, set()).update(digests)
    return found


def collect_garbage(
    store: Store,
    profile: Profile,
    *,
    dry_run: bool = False,
    told: Callable[[Removal], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> GcReport:
    """As the profile wants it, in every root. Raises `StoreLocked`, `StoreError`."""
    if not dry_run:
        store.require_shareable()
    evicted = evict(store, profile, dry_run=dry_run, told=told)
    care = Care(dry_run=dry_run, told=told, stopped=stopped, **_cared_for(profile))
    report = _collect(store, profile, profile.storage.gc_options(), care)
    report.tags += evicted
    return report


def _collect(store: Store, profile: Profile, options: Mapping[Path, GcOptions], care: Care) -> GcReport:
    """With old records of promotions, and what is remembered of other registries."""
    report, now = collect(store, options, care), time.time()
    if not care.dry_run and not care.stopped():
        used = {each.ledger for each in profile.destinations}
        report.records += drop_old(store, now) + sweep_ledgers(store, used, now, care.pinned)
    return report


def _cared_for(profile: Profile) -> dict[str, Any]:
    limits = profile.http.limits
    return {
        "pinned": pinned_digests(profile),
        "session_idle": limits.session_timeout,
        "session_empty": limits.empty_session_timeout,
    }


class GcSchedule:
    """Collects garbage every `gcInterval`, in a thread, keeping what the profile names at that time.

    Each root is collected when its own interval has passed; `say` hears what a collection did, or why it
    could not. `stop` ends one that runs between two repositories.
    """

    def __init__(self, store: Store, profile: Callable[[], Profile], say: Callable[[str], None]) -> None:
        self._store, self._profile, self._say = store, profile, say
        self._storage = profile().storage  # an `up` goes on with the storage that it began with
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gc", daemon=True)
        self._last: dict[Path, float] = {}
        # An `up` that is started often collects all the same.
        self._began = time.monotonic() - _seconds_since(last_report(store))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_POLL_INTERVAL):
            try:
                self.collect_due()
            except MirrorflowError as error:
                self._say(f"garbage collection failed: {error}")

    def collect_due(self) -> None:
        """Collect the roots whose time has come. Raises `StoreError`, and what loading the profile raises."""
        now = time.monotonic()
        intervals = self._storage.gc_intervals()
        due = {root for root, each in intervals.items() if now >= self._last.get(root, self._began) + each}
        if not due:
            return
        self._last.update(dict.fromkeys(due, now))
        options = {
            root: replace(each, enabled=root in due) for root, each in self._storage.gc_options().items()
        }
        profile = self._profile()
        if evicted := evict(self._store, profile):
            found = counted(evicted, "tag that came on demand", "tags that came on demand")
            self._say(f"removed {found}: the cache is full, or no client pulls them")
        care = Care(stopped=self._stop.is_set, **_cared_for(profile))
        with suppress(StoreLocked):  # somebody does it by hand
            for line in summary_lines(_collect(self._store, profile, options, care)):
                self._say(line)


def _seconds_since(report: Mapping[str, Any] | None) -> float:
    started = (report or {}).get("started", time.time())
    return max(0.0, time.time() - float(started))


def summary_lines(report: GcReport) -> list[str]:
    """What a collection did, for people; nothing when there was nothing to do."""
    lines = [*report.problems]
    if report.tags or report.manifests or report.trashed or report.purged or report.records:
        lines.append(summary(report))
    return lines


def summary(report: GcReport) -> str:
    """One line."""
    would = "would remove" if report.dry_run else "removed"
    parts = [
        counted(report.tags, "tag"),
        counted(report.manifests, "manifest"),
        f"{counted(report.trashed, 'blob')} to the trash ({human_bytes(report.trashed_bytes)})",
        f"{report.purged:,} for good ({human_bytes(report.purged_bytes)})",
        counted(report.leftovers, "leftover"),
        *([counted(report.records, "old record")] if report.records else []),
    ]
    return f"garbage collection {would}: {', '.join(parts)}"
