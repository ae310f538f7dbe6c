"""A store in a bucket, beside one in a folder and beside zot's; and blobs by 307, beside blobs by way of us.

versitygw and the upstream run on the same cores: what they take is a part of every time. versitygw takes more
CPU for large layers than a mirror into a folder, so these come from an upstream with a limited bandwidth.
"""

from __future__ import annotations

import math
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness.ours import sync_by_command
from benchmarks.harness.peers.mirrors import Wanted, zot_sync
from benchmarks.harness.processes import cpu_seconds, run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, AtMost, Row, side_by_side
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bucket import LOGIN, running_bucket
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Mirror, put, tagged
from benchmarks.harness.upstreams.proxy import proxied
from registry_server.http.server_options import ServerOptions
from registry_server.http.server_process import ServerProcess
from registry_server.store.objects.storage_driver import StorageDriver
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from benchmarks.harness.place import Place
    from benchmarks.harness.processes import Usage
    from benchmarks.harness.report.rows import Budget
    from benchmarks.harness.upstreams.bucket import Bucket

    _Contender = Callable[[Wanted, Path, Bucket], Usage]

UPSTREAM = "our own server"
_OURS, _FOLDER, _FAR, _ZOT = "ours", "ours into a folder", "ours, 5 ms away", "zot sync"
_LATENCY: Final = 0.005  # seconds a request
_BANDWIDTH: Final = 100e6  # bytes a second, of the upstream of large layers
_NEW, _UNCHANGED = 12, 0.5  # requests to the bucket: for a new image, and for an unchanged tag (the lists)
_NEAR: Final = AtLeast(1 / 1.3, "<= 1.3 x the time")
_REDIRECTED, _STREAMED = "by 307", "by way of us"


@dataclass(frozen=True, slots=True)
class Size:
    mirror: Mirror
    large: Mirror
    blob: int  # bytes
    pulls: int
    rounds: int
    within: float = math.inf  # seconds, for all rounds


FULL = Size(Mirror(100, 10, 200_000), Mirror(10, 4, 20_000_000), blob=8 << 20, pulls=40, rounds=2, within=120)
SMALL = Size(Mirror(4, 2, 20_000), Mirror(2, 1, 200_000), blob=100_000, pulls=2, rounds=1)


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's turn: from nothing, and once more; what the bucket was asked each time."""

    first: Usage
    again: Usage
    asked: int
    asked_again: int


@dataclass(frozen=True, slots=True)
class Result:
    """`large`: as `turns`, of large layers. `pulled`: CPU seconds of the server for one GET of a blob."""

    size: Size
    turns: Mapping[str, list[Round]]
    large: Mapping[str, list[Round]]
    pulled: Mapping[str, list[float]]

    def rows(self) -> list[Row]:
        images = self.size.mirror.images
        what = f"{images} images into a bucket"
        by_307 = side_by_side(self.pulled, lambda each: each * 1e3, _REDIRECTED, (_STREAMED,))
        return [
            self._row(what, "s", lambda each: each.first.wall, AtLeast(1.25)),
            self._row(f"{what}, CPU", "s", lambda each: each.first.cpu),
            self._row("requests to it, a new image", "", lambda each: each.asked / images, AtMost(_NEW)),
            self._row("the same with nothing new", "s", lambda each: each.again.wall, AtLeast(1.25)),
            self._row(
                "requests to it, an unchanged tag", "", lambda each: each.asked_again / images,
                AtMost(_UNCHANGED),
            ),
            self._row(f"{what}, beside a folder", "s", lambda each: each.first.wall, _NEAR, peer=_FOLDER),
            self._row(
                f"{what} that is 5 ms away, beside a folder", "s", lambda each: each.first.wall, _NEAR,
                ours=_FAR, peer=_FOLDER,
            ),
            self._large("s", lambda each: each.first.wall, _NEAR),
            self._large("MB", lambda each: each.first.peak / 1e6),
            Row("object_storage", f"CPU of a GET of {self.size.blob >> 10} KiB, 307", "ms", *by_307),
        ]  # fmt: skip

    def _large(self, unit: str, value: Callable[[Round], float], budget: Budget | None = None) -> Row:
        what = f"{self.size.large.images} images of {self.size.large.median / 1e6:g} MB layers at 100 MB/s"
        compared = side_by_side(self.large, value, _FAR, (_FOLDER,))
        where = "5 ms away" if unit == "s" else "5 ms away, memory"
        return Row("object_storage", f"{what}, bucket {where}", unit, *compared, budget=budget)

    def _row(
        self,
        what: str,
        unit: str,
        value: Callable[[Round], float],
        budget: Budget | None = None,
        *,
        ours: str = _OURS,
        peer: str = _ZOT,
    ) -> Row:
        compared = side_by_side(self.turns, value, ours, (peer,))
        return Row("object_storage", what, unit, *compared, budget=budget)


def measure(place: Place, size: Size) -> Result:
    gateway = place.program("versitygw")
    beside = {_FOLDER: _into_folder, _FAR: _far}
    contenders: dict[str, _Contender] = {_OURS: _ours, **beside}
    for program in place.optional("zot").values():
        contenders[_ZOT] = partial(_zot, program)
    turns = _turns(place, gateway, size, size.mirror, contenders)
    large = _turns(place, gateway, size, size.large, beside, bandwidth=_BANDWIDTH)
    return Result(size, turns, large, _pulls(place, gateway, size))


def _turns(
    place: Place,
    gateway: str,
    size: Size,
    mirror: Mirror,
    contenders: Mapping[str, _Contender],
    *,
    bandwidth: float = 0,
) -> dict[str, list[Round]]:
    folder = place.fresh("object_storage")
    store = Store.open(folder / "upstream", durability="none")
    mirror.fill(store)
    with bundled(store.root) as upstream, proxied(upstream.host, bandwidth=bandwidth) as near:
        wanted = Wanted(near.host if bandwidth else upstream.host, tagged(store))
        turns = {
            name: partial(_turn, place, gateway, partial(each, wanted)) for name, each in contenders.items()
        }
        found = alternately(size.rounds, turns, within=size.within)
    shutil.rmtree(folder)
    return found


def _turn(place: Place, gateway: str, contender: Callable[[Path, Bucket], Usage]) -> Round:
    folder = place.fresh("bucket")
    with running_bucket(gateway, folder) as bucket:
        first, asked = contender(folder, bucket), bucket.asked()
        again = contender(folder, bucket)
        found = Round(first, again, asked, bucket.asked() - asked)
    shutil.rmtree(folder)
    return found


def _ours(wanted: Wanted, folder: Path, bucket: Bucket, host: str = "") -> Usage:
    storage = {"storageDriver": bucket.settings(host)}
    profile = write_profile(folder, f"http://{wanted.host}", folder / "mirror", storage=storage)
    return sync_by_command(profile, more=LOGIN)


def _far(wanted: Wanted, folder: Path, bucket: Bucket) -> Usage:
    with proxied(bucket.host, latency=_LATENCY) as proxy:
        return _ours(wanted, folder, bucket, proxy.host)


def _into_folder(wanted: Wanted, folder: Path, _bucket: Bucket) -> Usage:
    return sync_by_command(write_profile(folder, f"http://{wanted.host}", folder / "mirror"))


def _zot(program: str, wanted: Wanted, folder: Path, bucket: Bucket) -> Usage:
    key, secret = LOGIN.values()
    driver = {**bucket.settings(), "accesskey": key, "secretkey": secret, "skipverify": False}
    return zot_sync(program, wanted, folder, {"storageDriver": driver, "dedupe": False, "remoteCache": False})


def _pulls(place: Place, gateway: str, size: Size) -> dict[str, list[float]]:
    folder = place.fresh("redirects")
    with running_bucket(gateway, folder) as bucket, _logged_in():
        settings = bucket.settings()
        driver = StorageDriver(
            "s3", settings["bucket"], region=settings["region"], regionendpoint=settings["regionendpoint"]
        )
        remote = RemoteStorage(driver)
        store = Store.open(folder / "store", remote=remote)
        digest = put(store, "app", "a blob", size.blob).digest
        ways = {_REDIRECTED: replace(remote, redirect_seconds=600.0), _STREAMED: remote}
        turns = {
            way: partial(_pulled, folder / "store", how, digest, size.pulls) for way, how in ways.items()
        }
        found = alternately(size.rounds, turns)
    shutil.rmtree(folder)
    return found


@contextmanager
def _logged_in() -> Iterator[None]:
    """This process and its children have the keys of the bucket."""
    before = {name: os.environ.get(name) for name in LOGIN}
    os.environ.update(LOGIN)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _pulled(root: Path, remote: RemoteStorage, digest: str, times: int) -> float:
    """CPU seconds of our server for one GET by a client that follows redirects."""
    server = ServerProcess(ServerOptions(root, port=0, remote=remote))
    try:
        urls = [f"{server.url}/v2/app/blobs/{digest}"]
        command = ["curl", "--silent", "--fail", "--location", *["--output", "/dev/null"] * times]
        used = cpu_seconds(server.pid)
        run([*command, *urls * times])
        return (cpu_seconds(server.pid) - used) / times
    finally:
        server.stop()
