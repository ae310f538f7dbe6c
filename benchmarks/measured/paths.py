"""How much of our own code a sync, a HEAD, a cold pull and a push run. Counted, not timed.

Each is done twice, and the second time counts: by then everything is imported and connected.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import httpx

from benchmarks.harness.call_counts import CallRecorder
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtMost, Row, Sample
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Poll
from flows.cli.app import app
from flows.entries import open_store
from flows.receiver.webhook import Receiver
from profiles.loader import load_profile
from registry_server.http.app import create_app
from registry_server.http.pull_through.on_miss import OnMiss
from registry_server.http.pull_through.receivers import ReceiverClient
from registry_server.http.pull_through.via_marks import mark_of
from registry_server.http.pull_through.webhook_client import OnMissOptions
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.store.store import Store
from tasks.context.mirror_run import open_run
from tasks.engines.dag import Dag
from tasks.engines.direct_engine import direct_engine
from tasks.engines.steps import run_step
from tasks.on_demand.service import OnDemand
from tasks.on_demand.work import do
from tasks.results.poll_records import record_polls
from tasks.results.report import build_report
from tasks.run.record import RunRecord
from tasks.upstream.login.credential_sources import StandardCredentials
from tasks.upstream.registry import UpstreamRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from starlette.types import ASGIApp

    from benchmarks.harness.call_counts import Walk
    from benchmarks.harness.place import Place
    from tasks.on_demand.work import Work

UPSTREAM = "our own server"
_SECRET: Final = b"only for this benchmark"
_SHOWN: Final = 8  # calls between files, of each path
# At most so many functions, files, and calls between files.
_BUDGETS: Final[dict[str, tuple[int, int, int | None]]] = {
    "sync of one changed tag": (200, 40, 350),
    "one HEAD": (25, 8, None),
    "cold pull of an image": (250, 45, None),
}


@dataclass(frozen=True, slots=True)
class Size:
    tags: int


FULL = SMALL = Size(tags=4)


@dataclass(frozen=True, slots=True)
class Result:
    walks: Mapping[str, Walk]

    def rows(self) -> list[Row]:
        return [row for what, walk in self.walks.items() for row in _rows(what, walk)]


def _rows(what: str, walk: Walk) -> Iterator[Row]:
    found = {
        "functions": walk.functions,
        "files": len(walk.files),
        "calls between files": walk.crossing.total(),
    }
    for (name, number), most in zip(found.items(), _BUDGETS.get(what, (None, None, None)), strict=True):
        budget = AtMost(most) if most is not None else None
        yield Row("paths", f"{what}: {name}", "", Sample.of([number]), budget=budget)


def measure(place: Place, size: Size) -> Result:
    folder, poll, recorder = place.fresh("paths"), Poll(size.tags, repositories=1), CallRecorder()
    poll.fill(Store.open(folder / "upstream", durability="none"))
    poll.fill(Store.open(folder / "mirror", durability="none"), mirrored=True)
    with bundled(folder / "upstream") as upstream, recorder.open():
        paths = _Paths(recorder, folder, poll, upstream.url)
        walks = {
            "sync of one changed tag": paths.sync(),
            "`mirrorflow sync`, all of it": paths.command(),
            "one HEAD": paths.head(),
            "cold pull of an image": paths.cold_pull(),
            "push of an image": paths.push(),
        }
    for what, walk in walks.items():
        place.say(f"{what}, the most frequent calls between files:")
        for call, number in walk.crossing.most_common(_SHOWN):
            place.say(f"{number:6}  {call}")
    return Result(walks)


@dataclass(slots=True)
class _Paths:
    recorder: CallRecorder
    folder: Path
    poll: Poll
    url: str
    _changes: int = 0

    def _change(self) -> None:
        self.poll.change(Store.open(self.folder / "upstream", durability="none"), 1, self._changes)
        self._changes += 1

    def sync(self) -> Walk:
        """From the first step to the report; the profile is loaded, and the context open."""
        path = write_profile(self.folder, self.url, self.folder / "mirror")
        for _ in range(2):
            self._change()
            self._sync(path)
        return self.recorder.taken()

    def _sync(self, path: Path) -> None:
        profile, record = load_profile(path).profile, RunRecord()
        with (
            open_run(profile, profile.sync.registries[0], open_store(profile)) as run,
            direct_engine(run, partial(run_step, run)) as engine,
            self.recorder.record(),
        ):
            failure = Dag(run, engine, record).mirror()
            record_polls(run, record)
            report = build_report(run, record, started=time.time(), run_id="", failure=failure)
        assert report.complete, report

    def command(self) -> Walk:
        path = write_profile(self.folder, self.url, self.folder / "mirror")
        for _ in range(2):
            self._change()
            with redirect_stdout(io.StringIO()), self.recorder.record():
                app(["sync", str(path)], standalone_mode=False)
        return self.recorder.taken()

    def head(self) -> Walk:
        entry = load_profile(write_profile(self.folder, self.url, self.folder)).profile.sync.registries[0]
        with UpstreamRegistry(entry, StandardCredentials(None)) as upstream:
            for _ in range(2):
                with self.recorder.record():
                    upstream.head(self.poll.name(0), "v0")
        return self.recorder.taken()

    def cold_pull(self) -> Walk:
        """The server's part and the receiver's, until the tag is in the store."""
        with self._mirroring() as (server, work):
            for tag in ("v0", "v1"):
                with self.recorder.record():
                    asyncio.run(_pull(server, self.poll.name(0), tag))
                    work.wait()
        return self.recorder.taken()

    @contextmanager
    def _mirroring(self) -> Iterator[tuple[ASGIApp, _Threads]]:
        path = write_profile(self.folder, self.url, self.folder / "cold", onDemand=True)
        profile, work = load_profile(path).profile, _Threads()
        store = open_store(profile)
        service = OnDemand(profile, store, work)
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        receiver = Receiver(
            listener, _SECRET, service.answer, resolve=service.resolve, refusal=service.refusal
        )
        threading.Thread(target=receiver.serve, daemon=True).start()
        options = OnMissOptions((url,), _SECRET, mark=mark_of(store.uuid))
        try:
            yield (
                create_app(store, on_miss=OnMiss(ReceiverClient.of(options, store.receivers))),
                work,
            )
        finally:
            receiver.close()
            service.close()

    def push(self) -> Walk:
        server = create_app(Store.open(self.folder / "pushed"), writable=True)
        for tag in ("v0", "v1"):
            with self.recorder.record():
                asyncio.run(_push(server, self.poll.name(0), tag))
        return self.recorder.taken()


@dataclass(slots=True)
class _Threads:
    """Does the work on demand."""

    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))
    _open: list[Future[None]] = field(default_factory=list)

    def submit(self, work: Work) -> None:
        self._open.append(self._pool.submit(do, work))

    def wait(self) -> None:
        """Work may give more work."""
        while self._open:
            self._open.pop().result()


def _client(server: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://mirror")


async def _pull(server: ASGIApp, name: str, tag: str) -> None:
    async with _client(server) as client:
        manifest = (await client.get(f"/v2/{name}/manifests/{tag}")).raise_for_status().json()
        for blob in (manifest["config"], *manifest["layers"]):
            (await client.get(f"/v2/{name}/blobs/{blob['digest']}")).raise_for_status()


async def _push(server: ASGIApp, name: str, tag: str) -> None:
    content = f"the config of {tag}".encode()
    config = {"mediaType": media_types.OCI_CONFIG, "digest": Digest.of(content), "size": len(content)}
    manifest = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": []}
    async with _client(server) as client:
        begun = (await client.post(f"/v2/{name}/blobs/uploads/")).raise_for_status()
        digest = {"digest": Digest.of(content)}
        (await client.put(begun.headers["Location"], params=digest, content=content)).raise_for_status()
        where, headers = f"/v2/{name}/manifests/{tag}", {"Content-Type": media_types.OCI_MANIFEST}
        (await client.put(where, content=json.dumps(manifest), headers=headers)).raise_for_status()
