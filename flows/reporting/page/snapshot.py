"""The status of the mirror as the page and the metrics show it, computed in a thread and kept a while.

A mirror of 100,000 tags takes seconds to look at. So a request gets the last snapshot, and one that is no
longer fresh is renewed in a thread. The next request sees the new one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from flows.reporting.entry_status import judged_by_objective, oldest_known
from flows.reporting.mirror_status import entries_of, wanted_tags
from profiles.loader import load_profile
from profiles.model.destination import STORE
from registry_server.store.maintenance.stats import stats
from tasks.stored.images import StoredImages
from tasks.trust.verdict import VerdictOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from flows.reporting.entry_status import EntryStatus
    from flows.reporting.tag_status import TagStatus
    from profiles.loader import LoadedProfile
    from registry_server.store.maintenance.stats import StoreStats
    from registry_server.store.store import Store

_FRESH: Final = 3.0  # seconds that a snapshot is shown without a look at the store
_STATS_FRESH: Final = 60.0
_SHARE: Final = 20  # a look that took one second is repeated after as many
_PROBLEMS: Final = 1000  # of one repository at most are kept; all are counted
_ANY: Final = "any/repository"

log = logging.getLogger("mirrorflow.page")


@dataclass(slots=True)
class Summary:
    """Of one repository. `oldest`: when the tag that was longest not known to be current was; None: never.

    `counts` has the keys images, problems, held, gone, verified, unverified.
    """

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    registries: set[str] = field(default_factory=set)
    checked: float | None = None

    def take(self, row: TagStatus) -> None:
        self.registries.add(row.registry)
        self.counts.update(counted(row))
        if row.last_check is not None:
            self.checked = max(self.checked or 0.0, row.last_check)


def counted(row: TagStatus) -> list[str]:
    """What a tag counts as."""
    stored = bool(row.stored_digest) and row.destination == STORE
    verified = row.verdict.startswith(VerdictOutcome.VERIFIED)
    kinds = {
        "images": stored and bool(row.reference),
        "problems": not row.in_place,
        "held": bool(row.held_back),
        "gone": row.gone_since is not None,
        "verified": stored and verified,
        "unverified": stored and bool(row.reference) and not verified,
    }
    return [kind for kind, holds in kinds.items() if holds]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a look at the store found. `taken` in Unix seconds; `seconds` is how long it took.

    `known`: see `oldest_known`. `outdated`: a newer one could not be made.
    """

    loaded: LoadedProfile
    taken: float
    seconds: float
    entries: Sequence[EntryStatus] = ()
    repositories: Mapping[str, Summary] = field(default_factory=dict)
    problems: Sequence[TagStatus] = ()
    by_entry: Mapping[str, Counter[str]] = field(default_factory=dict)
    known: Mapping[str, float] = field(default_factory=dict)
    stats: StoreStats | None = None
    outdated: bool = False

    @property
    def is_fresh(self) -> bool:
        return time.time() - self.taken < max(_FRESH, _SHARE * self.seconds)


def sees_texts(snapshot: Snapshot, may_see: Callable[[str], bool]) -> bool:
    """Whether a visitor may read what runs say in words: it may name any repository, also one that is not
    here (yet), so it is for those only who may read whatever comes."""
    return may_see(_ANY) and all(map(may_see, snapshot.repositories))


class Snapshots:
    """The newest snapshot of a store under the profile at `path`. A worker has one."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path, self._store = path, store
        self._lock = threading.Lock()
        self._last: Snapshot | None = None
        self._renewal: asyncio.Task[Snapshot] | None = None
        self._stats: StoreStats | None = None
        self._stats_due = 0.0

    async def get(self) -> Snapshot:
        """The first one is waited for. Raises `ProfileInvalid`, `ProfileUnreadable`, `StoreError`."""
        last = self._last
        if last is not None and last.is_fresh:
            return last
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(asyncio.to_thread(self.look))
            self._renewal.add_done_callback(self._note_failure)
        return last if last is not None else await asyncio.shield(self._renewal)

    def look(self) -> Snapshot:
        """One thread looks, others wait for it. Raises like `get`."""
        with self._lock:
            if self._last is None or not self._last.is_fresh:
                found = take_snapshot(load_profile(self.path), self._store, time.time())
                self._last = replace(found, stats=self._sizes())
            return self._last

    def _note_failure(self, task: asyncio.Task[Snapshot]) -> None:
        """The last snapshot stays, and says that it is an old one."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.warning("the status of the mirror cannot be read: %s", error)
        if self._last is not None:
            self._last = replace(self._last, outdated=True)

    def _sizes(self) -> StoreStats:
        """Every marker is looked at for them, so they are found less often."""
        now = time.monotonic()
        if self._stats is None or now >= self._stats_due:
            self._stats = stats(self._store)
            self._stats_due = now + max(_STATS_FRESH, _SHARE * (time.monotonic() - now))
        return self._stats


def take_snapshot(loaded: LoadedProfile, store: Store, now: float) -> Snapshot:
    """Look at every tag record and poll record once. Raises `StoreError`."""
    began = time.perf_counter()
    profile = loaded.profile
    entries = entries_of(profile, store, profile.sync.registries, now)
    short = StoredImages(profile, store).shortfalls()
    found = _Fold()
    known = oldest_known(found.take(wanted_tags(profile, store, entries, short, now)))
    return Snapshot(
        loaded,
        now,
        time.perf_counter() - began,
        judged_by_objective(profile, entries, known, now),
        found.repositories,
        found.problems,
        found.by_entry,
        known,
    )


@dataclass(slots=True)
class _Fold:
    repositories: dict[str, Summary] = field(default_factory=dict)
    problems: list[TagStatus] = field(default_factory=list)
    by_entry: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def take(self, rows: Iterable[TagStatus]) -> Iterator[TagStatus]:
        """The rows, once they are counted."""
        for row in rows:
            summary = self.repositories.setdefault(row.repository, Summary(row.repository))
            summary.take(row)
            self.by_entry[row.registry].update(counted(row))
            if not row.in_place and summary.counts["problems"] <= _PROBLEMS:
                self.problems.append(row)
            yield row
