"""The connections to upstream registries, kept for as long as the profile says the same of them."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tasks.context.mirror_run import open_run
from tasks.on_demand.arrivals import Arrivals, WatchedLive
from tasks.run.transfers import Transfers

if TYPE_CHECKING:
    from profiles.model.profile import Profile
    from registry_server.store.store import Store
    from tasks.context.mirror_run import MirrorRun
    from tasks.on_demand.routing import Candidate
    from tasks.run.values import Image


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
                opened = open_run(self.profile, candidate.entry, self.store, stop=self.stop, lasting=True)
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
