"""What Prometheus scrapes at /metrics, for all workers together.

Workers write their counts to small files that they map into memory, and whichever is asked reads those of all
(prometheus-client's multiprocess mode). Labels are few and of our own making: no client can add a series.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.responses import Response

from registry_server.http.auth.auth_errors import denied, unauthorised
from registry_server.http.auth.credentials import basic_challenge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from starlette.requests import Request

    from registry_server.http.access_log import RequestRecord
    from registry_server.http.auth.guard import Guard
    from registry_server.store.store import Store

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_MAINTENANCE = {
    "gc": {
        "started": "When the last garbage collection began, in seconds since 1970.",
        "seconds": "How long it took.",
        "kept": "Blobs that a tag, a manifest or a referrer needs.",
        "trashed_bytes": "Bytes of blobs that it moved to the trash.",
        "purged_bytes": "Bytes of blobs that it deleted from the trash.",
        "problems": "Repositories that it could not read.",
    },
    "scrub": {
        "started": "When the last scrub began, in seconds since 1970.",
        "seconds": "How long it took.",
        "blobs": "Blobs that it hashed.",
        "bytes": "Bytes that it hashed: of a whole scrub, the size of the store.",
        "corrupt": "Blobs whose content did not match their digest.",
    },
}

_WALK_SECONDS = 60.0  # between two walks through the pool, at least
_WALK_SHARE = 100  # at most one part in so many of the time is spent walking

# This module is loaded in the worker that counts. By default the library asks for the process id at each
# count, five times a request, to see whether it was forked: 8 % of what a small answer costs.
_WORKER = os.getpid()
if values.ValueClass is not values.MutexValue:
    values.ValueClass = values.MultiProcessValue(lambda: _WORKER)  # type: ignore[no-untyped-call] # as below


class _Series(NamedTuple):
    """What one kind of request counts in, looked up once: labels cost more than counting does."""

    requests: Counter
    seconds: Histogram
    bytes: Counter
    lookups: Counter | None


class Metrics:
    """The counts of one worker; `roots` are the folders of the store by the first segment they are for."""

    def __init__(self, roots: Mapping[str, Path], store: Store) -> None:
        self._roots, self._store = roots, store
        # To list a bucket takes long and costs money; its provider has that figure.
        self._pools = {name: PoolSize(root) for name, root in roots.items()} if store.is_local else {}
        self._collectors: list[Collector] = []
        self._series: dict[tuple[str, str, int, bool], _Series] = {}
        own = CollectorRegistry()  # not the one of all: an application has one of these, a test many
        labels = ("route", "method")
        self._requests = Counter(
            "mirrorflow_http_requests", "Requests answered.", (*labels, "status"), registry=own
        )
        self._seconds = Histogram(
            "mirrorflow_http_request_seconds",
            "From the head of a request to the last byte of its answer.",
            labels,
            buckets=_SECONDS,
            registry=own,
        )
        self._bytes = Counter(
            "mirrorflow_http_response_bytes", "Bytes of bodies served.", ("route",), registry=own
        )
        self._lookups = Counter(
            "mirrorflow_lookups",
            "Manifests and blobs asked for: hit or miss.",
            ("route", "result"),
            registry=own,
        )
        self._broken = Counter(
            "mirrorflow_http_broken_off", "Answers that were interrupted.", ("route",), registry=own
        )

    def add(self, collectors: Iterable[Collector]) -> None:
        """Show these series too. They are collected in the worker that is asked."""
        self._collectors += collectors

    def observe(self, record: RequestRecord) -> None:
        """Count a request."""
        method = record.method if record.method in _METHODS else "other"
        key = (record.kind, method, record.status, record.missed or record.status == 404)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._made(*key)
        series.requests.inc()
        series.seconds.observe(record.seconds)
        if record.bytes:
            series.bytes.inc(record.bytes)
        if series.lookups is not None:
            series.lookups.inc()
        if not record.complete:
            self._broken.labels(record.kind).inc()

    def _made(self, kind: str, method: str, status: int, missed: bool) -> _Series:  # noqa: FBT001 - a key's parts
        lookups = None
        if kind in ("manifest", "blob") and method in ("GET", "HEAD") and (missed or status < 400):
            lookups = self._lookups.labels(kind, "miss" if missed else "hit")
        return _Series(
            self._requests.labels(kind, method, str(status)),
            self._seconds.labels(kind, method),
            self._bytes.labels(kind),
            lookups,
        )

    async def answer(self, guard: Guard | None, request: Request) -> Response:
        """`/metrics`, for whom `accessControl.metrics` names and for admins. Raises `AccessRefused`."""
        if guard is not None:
            caller = await guard.authenticate(request)
            if not guard.may_observe(caller):
                raise denied("not permitted") if caller.user else unauthorised(basic_challenge())
        body = await asyncio.to_thread(self._render)
        return Response(body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"})

    def _render(self) -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # untyped in the library
        registry.register(_Disks(self._roots, self._pools))
        registry.register(_Maintenance(self._store))
        for collector in self._collectors:
            registry.register(collector)
        return generate_latest(registry)


class _Disks(Collector):
    """Looked at when asked."""

    def __init__(self, roots: Mapping[str, Path], pools: Mapping[str, PoolSize]) -> None:
        self._roots, self._pools = roots, pools

    def collect(self) -> Iterator[GaugeMetricFamily]:
        free = GaugeMetricFamily(
            "mirrorflow_store_free_bytes", "Free on the disk of a storage root.", labels=["root"]
        )
        size = GaugeMetricFamily("mirrorflow_store_disk_bytes", "Size of that disk.", labels=["root"])
        incoming = GaugeMetricFamily(
            "mirrorflow_store_incoming_blobs",
            "Incoming blobs: arriving, or left by an interrupted writer.",
            labels=["root"],
        )
        held = GaugeMetricFamily(
            "mirrorflow_store_bytes", "Bytes of all blobs and manifests of a storage root.", labels=["root"]
        )
        for name, root in self._roots.items():
            if name in self._pools and (found := self._pools[name].bytes()) is not None:
                held.add_metric([name], found)
            try:
                disk = os.statvfs(root)
                free.add_metric([name], disk.f_bavail * disk.f_frsize)
                size.add_metric([name], disk.f_blocks * disk.f_frsize)
                incoming.add_metric([name], _entries(root / "incoming"))
            except OSError:
                continue  # /readyz says that it cannot be read
        yield from (free, size, incoming, held)


class _Maintenance(Collector):
    """What the last garbage collection and the last scrub left on record in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, figures in _MAINTENANCE.items():
            found = self._store.maintenance_report(name) or {}
            for key, meaning in figures.items():
                value = found.get(key)
                number = len(value) if isinstance(value, list) else value
                if isinstance(number, int | float):
                    yield GaugeMetricFamily(f"mirrorflow_{name}_last_{key}", meaning, value=number)


def _entries(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(1 for _ in entries)
    except FileNotFoundError:
        return 0


class PoolSize:
    """How many bytes one storage root has: a walk through all blobs, so one at a time, and not too often.

    Thread-safe. `clock` gives seconds.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool, self._clock = root / "blobs", clock
        self._walking = threading.Lock()
        self._found: int | None = None
        self._next = 0.0

    def bytes(self) -> int | None:
        """As of the last walk, which is up to a minute old or, in a very large store, older.

        None as long as the first one is under way elsewhere, and when the pool cannot be read.
        """
        if self._clock() >= self._next and self._walking.acquire(blocking=False):
            try:
                self._walk()
            finally:
                self._walking.release()
        return self._found

    def _walk(self) -> None:
        began = self._clock()
        try:
            self._found = sum(_sizes(self._pool))
        except OSError:  # /readyz says so
            self._found = None
        now = self._clock()
        self._next = now + max(_WALK_SECONDS, _WALK_SHARE * (now - began))


def _sizes(folder: os.PathLike[str]) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry)
                continue
            try:
                yield entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # collected meanwhile
                continue
