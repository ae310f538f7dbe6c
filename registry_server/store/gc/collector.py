"""Garbage collection without stopping anybody.

Why nothing that is needed is lost, whoever writes at the same time, and wherever the collector is killed:

- A repository gives up tags, manifests and markers only while nobody sets a tag in it (turns.alone), and
  after another look. Setting a tag looks for the whole closure under the same lock. Tags go first.
- Writers leave a marker, or an intent in staging/, before they rely on a blob of the pool. A blob without
  either goes into the trash; after that the markers are read again, and what has one by now comes back.
- Whoever misses a blob meanwhile takes it out of the trash himself (pool/blob_pool.py).
- The trash is emptied by the next collection, which has looked at everything again.
- What is young stays, by the clock that wrote the files; so does what is younger than a lease (Turns).
- What cannot be read is kept: a repository by itself; when not even its markers can be listed, everything.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from registry_server.store import records
from registry_server.store.errors import StoreDamaged, StoreError, from_os_error, translated
from registry_server.store.gc.gc_report import GcReport, Removal, Unneeded
from registry_server.store.gc.mark import AgeLimits, RepositoryView
from registry_server.store.gc.retention import GcOptions, RepositoryRetention
from registry_server.store.gc.sweep import Sweep, repositories_of
from registry_server.store.objects.objects import content_of
from registry_server.store.pool.brought import announce_removal
from registry_server.store.repository_reader import HIDDEN, VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.gc.sweep import Pinned
    from registry_server.store.storage_root import StorageRoot
    from registry_server.store.store import Store

ROLE: Final = "gc"
_REPORT: Final = "gc.json"
_UNTAGGED: Final = "no tag needs it"
_SLACK: Final = 2.0  # seconds by which clocks of files may differ


@dataclass(frozen=True, slots=True)
class Care:
    """How one collection goes about it, in all roots.

    An upload ends when nobody wrote to it for `session_idle` seconds, or `session_empty` without a byte.
    """

    dry_run: bool = False
    pinned: Pinned = field(default_factory=dict)
    told: Callable[[Removal], None] = lambda _: None
    stopped: Callable[[], bool] = lambda: False
    sleep: Callable[[float], None] = time.sleep
    session_idle: float = 86400.0
    session_empty: float = 3600.0


def collect(
    store: Store, options: Mapping[Path, GcOptions] | None = None, care: Care | None = None
) -> GcReport:
    """Collect garbage in every storage root of the store; `options` by the folder of the root.

    Raises `StoreLocked` when another collection is at it, `StoreError` when a root cannot be read or written:
    then nothing that was not looked at has been touched. `StoreNotShareable`: nothing is collected there.
    """
    care = care or Care()
    if not care.dry_run:
        store.require_shareable()
    report = GcReport(dry_run=care.dry_run, started=time.time())
    by_root = {os.path.realpath(path): each for path, each in (options or {}).items()}
    with contextlib.ExitStack() as claims:
        for root in store.roots:
            claims.enter_context(root.turns.claim(ROLE))
        for root in store.roots:
            chosen = by_root.get(root.folder, GcOptions())
            if chosen.enabled:
                _Collection(store, root, chosen, care, report).run()
        report.seconds = time.time() - report.started
        _remember(store, report)
    return report


@dataclass(slots=True)
class _Collection:
    """One collection in one storage root."""

    store: Store
    root: StorageRoot
    options: GcOptions
    care: Care
    report: GcReport

    @translated
    def run(self) -> None:
        ages = self._ages()
        sweep = Sweep(self.root, ages, self.care, self.report)
        sweep.leftovers()
        for name in repositories_of(self.root):
            if self.care.stopped():
                return
            view = self._view(name, sweep.pinned(self.store, name))
            self._collect(view, ages, sweep, partial(sweep.pinned, self.store, name, anew=True))
            self._collect(self._hidden(name), ages, sweep)
        sweep.purge()
        sweep.sweep()
        if sweep.found and not self.care.dry_run:
            self.care.sleep(self.options.settle)
            sweep.check_again()

    def _ages(self) -> AgeLimits:
        """By the clock that the files of the store were written by, which need not be this machine's."""
        now = self.root.objects.now()
        lease = self.root.turns.oldest_lease()
        limit = now if lease is None else min(now, lease - _SLACK)
        delay = self.options.retention.delay
        limit = min(limit, now - self.root.pool.trash.spared_seconds)
        return AgeLimits(
            now,
            young=min(now - self.options.delay, limit),
            untagged=min(now - (self.options.delay if delay is None else delay), limit),
        )

    def _collect(
        self, view: RepositoryView, ages: AgeLimits, sweep: Sweep, pinned: Callable[[], set[str]] = set
    ) -> None:
        """`pinned`: what stays without a tag now."""
        name = view.name
        gone = Unneeded(name)
        try:
            view.look()
            if self.options.retention.dry_run:
                self._rehearse(view, ages)
            if unneeded := view.find_unneeded(ages):
                gone = unneeded if self.care.dry_run else self._remove_unneeded(view, ages, pinned)
        except (StoreDamaged, OSError) as error:
            problem = from_os_error(error) if isinstance(error, OSError) else error
            self.report.problems.append(f"{name}: not collected: {problem}")
            view.list_marked()
        self._count(view, gone)
        sweep.need((view.blobs - {*gone.blobs}) | (view.manifests - {*gone.manifests}))

    def _view(self, name: RepositoryName, pinned: set[str]) -> RepositoryView:
        folder = f"repos/{name}/{VISIBLE}"
        return RepositoryView(name, folder, self.root.pool, self.options.retention.policy(name), pinned)

    def _hidden(self, name: RepositoryName) -> RepositoryView:
        """No policy of retention is for what is hidden: its tags stay until somebody decides about them."""
        folder = f"repos/{name}/{HIDDEN}"
        return RepositoryView(f"{name} (hidden)", folder, self.root.pool, RepositoryRetention())

    def _rehearse(self, view: RepositoryView, ages: AgeLimits) -> None:
        """`retention.dryRun`: say what the policies would do, and then go on as if they kept everything."""
        unneeded = view.find_unneeded(ages)
        for name, reason in (
            *((f"{view.name}:{tag}", reason) for tag, reason in unneeded.tags.items()),
            *((f"{view.name}@{digest}", _UNTAGGED) for digest in unneeded.manifests),
        ):
            self.care.told(Removal("rehearsal", name, reason))
        view.policy = RepositoryRetention(delete_untagged=False)

    def _remove_unneeded(
        self, view: RepositoryView, ages: AgeLimits, pinned: Callable[[], set[str]]
    ) -> Unneeded:
        """What is given up: as it is seen while nobody can set a tag."""
        with self.root.turns.alone(f"{view.folder}/lock"):
            view.look()
            unneeded = view.find_unneeded(ages)
            if unneeded.tags:
                # No age protects what such a tag names, and a snapshot of it may have been taken meanwhile.
                view.pinned = pinned()
                unneeded = view.find_unneeded(ages)
            self._remove(view, unneeded)
        return unneeded

    def _remove(self, view: RepositoryView, unneeded: Unneeded) -> None:
        objects = self.root.objects
        if not self.root.is_local:
            announce_removal(objects, view.folder)
        objects.remove(*(f"{view.folder}/tags/{tag}" for tag in unneeded.tags))
        # A power cut must not bring back a tag, deleted or moved away from, whose closure it does not.
        objects.settle()
        objects.remove(*view.keys_of(unneeded))

    def _count(self, view: RepositoryView, gone: Unneeded) -> None:
        self.report.tags += len(gone.tags)
        self.report.manifests += len(gone.manifests)
        self.report.markers += len(gone.blobs)
        for tag, reason in gone.tags.items():
            self.care.told(Removal("tag", f"{view.name}:{tag}", reason))
        for digest in gone.manifests:
            self.care.told(Removal("manifest", f"{view.name}@{digest}", _UNTAGGED, view.size(digest)))
        for digest in gone.blobs:
            self.care.told(Removal("marker", f"{view.name}@{digest}", "no manifest here names it"))


def last_report(store: Store) -> dict[str, object] | None:
    """What the last collection did, for metrics and status."""
    return records.decoded(content_of(store.roots[0].objects, _REPORT), dict)


def _remember(store: Store, report: GcReport) -> None:
    if not report.dry_run:
        with contextlib.suppress(OSError, StoreError):  # a courtesy
            store.roots[0].objects.put(_REPORT, records.encode(report.to_json()))
