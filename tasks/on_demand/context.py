"""What the parts of the receiver share: profile, store, connections to upstreams, caches, limits."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tasks.context.mirror_run import open_run
from tasks.on_demand.arrivals import Arrivals, WatchedLive
from tasks.on_demand.background import BackgroundFetcher
from tasks.on_demand.content_index import ContentIndex
from tasks.on_demand.limits.breaker import Breaker
from tasks.on_demand.limits.bulkhead import Bulkhead
from tasks.on_demand.limits.single_flight import SingleFlight
from tasks.run.transfers import Transfers
from tasks.stored.images import StoredImages

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.store.store import Store
    from tasks.context.mirror_run import MirrorRun
    from tasks.on_demand.routing import Candidate
    from tasks.on_demand.work import Executor
    from tasks.run.values import Image

REVALIDATION_SECONDS = 2.0  # that a client waits for the upstream where the store has an answer
FIRST_LIST_SECONDS = 10.0  # the same for a list that was never asked for


@dataclass
class Upstreams:
    """One open run a registry entry; each image gets a view of it of its own. Thread-safe."""

    profile: Profile
    store: Store
    arrivals: Arrivals
    stop: threading.Event = field(default_factory=threading.Event)
    _runs: dict[str, MirrorRun] = field(default_factory=dict)
    _held: ExitStack = field(default_factory=ExitStack)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run_of(self, candidate: Candidate) -> MirrorRun:
        """Raises `CertificatesInvalid`."""
        with self._lock:
            name = candidate.entry.name
            if name not in self._runs:
                opened = open_run(
                    self.profile, candidate.entry, self.store, stop=self.stop, lasting=True, only_store=True
                )
                run = replace(self._held.enter_context(opened), on_demand=True)
                self._runs[name] = self._limited(run)
            return self._runs[name]

    def _limited(self, run: MirrorRun) -> MirrorRun:
        """With as many blobs at once as `maxConcurrentStreams` says; `reqConcurrent` is more, or the same."""
        most = run.entry.max_concurrent_streams
        if most is None or most >= run.entry.req_concurrent:
            return run
        transfers = Transfers(most)
        self._held.callback(transfers.close)
        return replace(run, transfers=transfers)

    def run_for(self, candidate: Candidate, image: Image) -> MirrorRun:
        """The run as one image sees it: requests that wait for its blobs are woken."""
        seconds = candidate.entry.sync_timeout or float("inf")
        live = WatchedLive(arrivals=self.arrivals, local=image.local, seconds=seconds)
        return replace(self.run_of(candidate), live=live)

    def replace_profile(self, profile: Profile) -> Upstreams:
        """Connections for another profile; ours stay open for the work that they have."""
        return Upstreams(profile, self.store, self.arrivals, self.stop)

    def close(self) -> None:
        self.stop.set()
        self._held.close()


class OnDemandContext:
    """Thread-safe. Follows the profile; work that has begun goes on by the one it began with."""

    def __init__(
        self,
        profile: Profile,
        store: Store,
        executor: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.executor, self.clock = store, executor, clock
        self.arrivals = Arrivals(frozenset(key.strip("/") for key in profile.storage.sub_paths))
        self.breaker = Breaker(clock)
        self.families = ContentIndex(store)
        self.bulkhead = Bulkhead(self.breaker)
        self.asking = SingleFlight(executor, self.bulkhead)
        self.finishing = BackgroundFetcher(store, executor, self.run_for, self.arrivals, clock)
        self._upstreams = [Upstreams(profile, store, self.arrivals)]
        self.images = StoredImages(profile, store)
        self._lock = threading.Lock()

    @property
    def profile(self) -> Profile:
        return self._upstreams[-1].profile

    def run_of(self, candidate: Candidate) -> MirrorRun:
        """Raises `CertificatesInvalid`."""
        return self._upstreams[-1].run_of(candidate)

    def run_for(self, candidate: Candidate, image: Image) -> MirrorRun:
        """As this image sees it: requests that wait for its blobs are woken."""
        return self._upstreams[-1].run_for(candidate, image)

    def replace_profile(self, profile: Profile) -> None:
        with self._lock:
            self._upstreams.append(self._upstreams[-1].replace_profile(profile))
            self.images = StoredImages(profile, self.store)

    def stop(self) -> None:
        """Ask all transfers to end; what has arrived is resumed the next time."""
        for upstreams in self._upstreams:
            upstreams.stop.set()

    def close(self) -> None:
        """Stop, and wait for the end."""
        self.stop()
        for upstreams in self._upstreams:
            upstreams.close()


def revalidation_seconds(entry: RegistryEntry) -> float:
    """Seconds that a client waits for the revalidation of what is here."""
    return entry.connect_timeout if "connect_timeout" in entry.model_fields_set else REVALIDATION_SECONDS
