"""What the steps of a run need of the world: upstream, store, threads, the stop sign.

Opened once in each process that runs steps. What a step finds out is in the value that it returns, not here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from profiles.model.own_address import without_own_addresses
from registry_server.http.pull_through.via_marks import mark_of
from registry_server.oci.errors import MirrorflowError
from tasks.context.referrer_lists import ReferrerLists
from tasks.context.verification import Verification
from tasks.destinations.targets import open_targets
from tasks.run.audit import NO_AUDIT, Audit, audit_of
from tasks.run.errors import Unexpected
from tasks.run.transfers import KeyedLocks, Transfers
from tasks.upstream.connecting import connect
from tasks.upstream.connection.bandwidth import Bandwidth, shared_bucket
from tasks.upstream.errors import Stopped
from tasks.upstream.login.credential_sources import StandardCredentials
from tasks.upstream.login.identities.choice import credentials_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from profiles.lock_file import LockedImage
    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry, Sync
    from profiles.values.shard import Shard
    from registry_server.oci.digest import Digest
    from registry_server.store.store import Store
    from tasks.destinations.targets import Targets
    from tasks.upstream.registry import Fetched, UpstreamRegistry

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("mirrorflow.run")
_MOST_BYTES: Final = 32 * 1024 * 1024  # of manifests that are remembered
_FOR_STORAGE: Final = 16
"""Threads more where the store is in a bucket: so many wait for it. What the upstream is asked at a time is
bounded by its client."""


@dataclass
class Live:
    """What the steps say while they run: bytes that arrive, and remarks for the report. Thread-safe."""

    bytes_moved: int = 0
    _remarks: dict[str, None] = field(default_factory=dict)  # in order, each once
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def remark(self, text: str) -> None:
        """What the reader of the report should know, and what is no failure: `Report.notes`. One sentence."""
        with self._lock:
            self._remarks.setdefault(text)

    def take_remarks(self) -> tuple[str, ...]:
        """Those since the last call."""
        with self._lock:
            taken, self._remarks = tuple(self._remarks), {}
            return taken

    def moved(self, digest: Digest, count: int) -> None:  # noqa: ARG002 - subclasses need it
        """`count` more bytes of a blob arrived."""
        with self._lock:
            self.bytes_moved += count

    def copied(self, digest: Digest) -> None:
        """The blob is in the store."""

    def copy_failed(self, digest: Digest, error: MirrorflowError) -> None:
        """The blob did not arrive."""


@dataclass(slots=True)
class RecentManifests:
    """What `select` has looked at, so that copying it later in the run costs no second GET.

    Bounded by bytes: what was forgotten is asked for again. Keys hold the upstream repository.
    """

    limit: int = _MOST_BYTES
    _held: OrderedDict[tuple[str, Digest], Fetched] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, source: str, digest: Digest) -> Fetched | None:
        with self._lock:
            return self._held.get((source, digest))

    def keep(self, source: str, fetched: Fetched) -> None:
        with self._lock:
            if (source, fetched.digest) in self._held:
                return
            self._held[source, fetched.digest] = fetched
            self._bytes += len(fetched.body)
            while self._bytes > self.limit:
                self._bytes -= len(self._held.popitem(last=False)[1].body)


@dataclass(frozen=True, slots=True)
class MirrorRun:
    """One pass over one registry entry. Made by `open_run`; handed to every step as it is."""

    entry: RegistryEntry
    upstream: UpstreamRegistry
    targets: Targets
    transfers: Transfers
    images: Transfers
    stop: threading.Event
    lists: ReferrerLists
    only: frozenset[str] = frozenset()
    live: Live = field(default_factory=Live)
    manifests: KeyedLocks = field(default_factory=KeyedLocks)
    recent: RecentManifests = field(default_factory=RecentManifests)
    verification: Verification = field(default_factory=Verification)
    on_demand: bool = False  # because a client asked for it
    sync: Sync | None = None  # what else the profile brings into the store
    now: Callable[[], float] = time.time  # unix seconds
    rehearsal: bool = False  # it looks, and writes nothing
    audit: Audit = NO_AUDIT
    shard: Shard | None = None  # the part of the entry's repositories that it is about; None: all
    locked: Mapping[str, LockedImage] = field(
        default_factory=dict
    )  # `only`, and the digest of each; or empty
    _counted: Counter[str] = field(default_factory=Counter)
    _counted_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def store(self) -> Store:
        """What the steps compare the upstream with: the store, or the ledger of the first destination."""
        return self.targets.primary.state

    def check_stopped(self) -> None:
        """Raises `Stopped` once somebody has asked the run to end."""
        if self.stop.is_set():
            raise Stopped

    def each(self, work: Callable[[T], R], items: Iterable[T]) -> list[tuple[T, R | MirrorflowError]]:
        """Do `work` for all items on the transfer threads; an item's error is its result. In order."""
        items = list(items)
        return list(zip(items, self.transfers.each(partial(self._attempt, work), items), strict=True))

    def _attempt(self, work: Callable[[T], R], item: T) -> R | MirrorflowError:
        try:
            self.check_stopped()
            return work(item)
        except MirrorflowError as error:
            return error
        except Exception as error:
            log.exception("unexpected error for %s", item)
            return Unexpected(error)

    def in_parallel(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`work` of every item, in order, on threads of their own; `work` may use `each`, and must not raise.

        Their number is the entry's `reqConcurrent`: a step waits for the upstream and for the disk. More for
        a bucket, which answers later.
        """
        if len(items) < 2:
            return [work(item) for item in items]
        return self.images.each(work, items)

    def take_requests(self) -> dict[str, int]:
        """What the upstream was asked since the last call, by kind; and the destinations, by their names."""
        with self._counted_lock:
            now = Counter(self.upstream.requests() | self.targets.requests())
            new = now - self._counted
            self._counted.clear()
            self._counted.update(now)
            return dict(new)


@contextmanager
def open_run(
    profile: Profile,
    entry: RegistryEntry,
    store: Store,
    *,
    only: Iterable[str] = (),
    stop: threading.Event | None = None,
    lasting: bool = False,
    only_store: bool = False,
    shard: Shard | None = None,
    locked: Mapping[str, LockedImage] | None = None,
) -> Iterator[MirrorRun]:
    """Connect one registry entry with the store; closes connections and threads at the end.

    `entry` has the limits of this run alone: those of a shard are its share (flows/processes.py).
    `lasting`: it is no pass with an end, and what refers to an image is asked for anew each time.
    `locked`: by their names here, the images to take, each with the digest that it has to have.
    `only_store`: whatever `to` says, it is about the store alone. Raises `DestinationFailed`, `StoreError`,
    `AuditUnusable`.
    """
    stop = stop or threading.Event()
    entry = without_own_addresses(entry, profile.http)
    verification = Verification.of(profile, entry)
    audit = audit_of(profile.log.audit, by="onDemand" if lasting else "sync", registry=entry.name)
    live = Live()
    remark = log.info if lasting else live.remark
    credentials = StandardCredentials(profile.sync.credentials_file)
    targets = open_targets(
        profile, entry, store, credentials, cancelled=stop.is_set, remark=remark, only_store=only_store
    )
    upstream = connect(
        entry,
        credentials_for(entry, credentials),
        records=store.root / "helm",
        searching=not lasting,
        cancelled=stop.is_set,
        mark=mark_of(store.uuid),
        remark=remark,
        bandwidth=_bandwidth(profile, entry),
    )
    width = entry.req_concurrent + (0 if store.is_local else _FOR_STORAGE)
    transfers, images = Transfers(width), Transfers(width)
    try:
        recent = RecentManifests()
        lists = ReferrerLists(upstream, recent, remember=not lasting)
        yield MirrorRun(
            entry,
            upstream,
            targets,
            transfers,
            images,
            stop,
            lists,
            frozenset(locked or only),
            live,
            recent=recent,
            verification=verification,
            sync=profile.sync,
            audit=audit,
            shard=shard,
            locked=locked or {},
        )
    finally:
        images.close()
        transfers.close()
        upstream.close()
        targets.close()


def _bandwidth(profile: Profile, entry: RegistryEntry) -> Bandwidth:
    """The limits of the entry and of the profile, each shared with whoever else in this process has it."""
    here = str(profile.storage.root_directory)
    limits = ((here, profile.sync.bytes_per_sec), (f"{here}: {entry.name}", entry.bytes_per_sec))
    return Bandwidth([shared_bucket(name, rate) for name, rate in limits if rate is not None])
