"""A store in a bucket: how many requests a new image costs and an unchanged tag, and how long both take.

The bucket is versitygw's, over a folder in memory; its access log is the witness of what was asked. zot syncs
into a bucket of its own.
"""

from __future__ import annotations

import math
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.ours import sync_by_command
from benchmarks.harness.peers.mirrors import Wanted, zot_sync
from benchmarks.harness.peers.servers import free_port, running
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, AtMost, Row, side_by_side
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Mirror, tagged
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from benchmarks.harness.place import Place
    from benchmarks.harness.processes import Usage

UPSTREAM = "our own server"
_LOGIN: Final = {"AWS_ACCESS_KEY_ID": "mirror", "AWS_SECRET_ACCESS_KEY": "of-the-benchmark"}
_ZOT: Final = "zot sync"
_NEW, _UNCHANGED = 12, 0.5  # requests to the bucket: for a new image, and for an unchanged tag (the lists)


@dataclass(frozen=True, slots=True)
class Size:
    mirror: Mirror
    rounds: int
    within: float = math.inf  # seconds, for all rounds


FULL = Size(Mirror(100, 10, 200_000), rounds=2, within=90)
SMALL = Size(Mirror(4, 2, 20_000), rounds=1)


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's turn: from nothing, and once more; what the bucket was asked each time."""

    first: Usage
    again: Usage
    asked: int
    asked_again: int


@dataclass(frozen=True, slots=True)
class Result:
    size: Size
    turns: Mapping[str, list[Round]]

    def rows(self) -> list[Row]:
        images = self.size.mirror.images
        what = f"{images} images into a bucket"
        return [
            self._compared(what, "s", lambda each: each.first.wall, AtLeast(1.25)),
            self._compared(f"{what}, CPU", "s", lambda each: each.first.cpu),
            self._compared(
                "requests to it, a new image", "", lambda each: each.asked / images, AtMost(_NEW)
            ),
            self._compared("the same with nothing new", "s", lambda each: each.again.wall, AtLeast(1.25)),
            self._compared(
                "requests to it, an unchanged tag", "", lambda each: each.asked_again / images,
                AtMost(_UNCHANGED),
            ),
        ]  # fmt: skip

    def _compared(
        self, what: str, unit: str, value: Callable[[Round], float], budget: AtLeast | AtMost | None = None
    ) -> Row:
        compared = side_by_side(self.turns, value, "ours", (_ZOT,))
        return Row("object_storage", what, unit, *compared, budget=budget)


@dataclass(frozen=True, slots=True)
class Bucket:
    """`settings`: as `storage.storageDriver` of a profile, and of zot, says it."""

    settings: Mapping[str, Any]
    log: Path

    def asked(self) -> int:
        return len(self.log.read_text().splitlines())


def measure(place: Place, size: Size) -> Result:
    gateway, folder = place.program("versitygw"), place.fresh("object_storage")
    store = Store.open(folder / "upstream", durability="none")
    size.mirror.fill(store)
    with bundled(store.root) as upstream:
        wanted = Wanted(upstream.host, tagged(store))
        contenders: dict[str, Callable[[Path, Bucket], Usage]] = {"ours": partial(_ours, wanted)}
        for program in place.optional("zot").values():
            contenders[_ZOT] = partial(_zot, program, wanted)
        turns = {name: partial(_turn, place, gateway, each) for name, each in contenders.items()}
        found = alternately(size.rounds, turns, within=size.within)
    shutil.rmtree(folder)
    return Result(size, found)


def _turn(place: Place, gateway: str, contender: Callable[[Path, Bucket], Usage]) -> Round:
    folder = place.fresh("bucket")
    with _bucket(gateway, folder) as bucket:
        first, asked = contender(folder, bucket), bucket.asked()
        again = contender(folder, bucket)
        found = Round(first, again, asked, bucket.asked() - asked)
    shutil.rmtree(folder)
    return found


@contextmanager
def _bucket(gateway: str, folder: Path) -> Iterator[Bucket]:
    port, log = free_port(), folder / "s3.log"
    (folder / "buckets/mirror").mkdir(parents=True)
    login = {
        "ROOT_ACCESS_KEY": _LOGIN["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": _LOGIN["AWS_SECRET_ACCESS_KEY"],
    }
    options = ["--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive", "--access-log", str(log)]
    with running([gateway, *options, "posix", str(folder / "buckets")], port, more=login) as server:
        settings = {
            "name": "s3", "bucket": "mirror", "rootdirectory": "/store", "region": "us-east-1",
            "regionendpoint": server.url, "forcepathstyle": True, "secure": False,
        }  # fmt: skip
        yield Bucket(settings, log)


def _ours(wanted: Wanted, folder: Path, bucket: Bucket) -> Usage:
    storage = {"storageDriver": dict(bucket.settings)}
    profile = write_profile(folder, f"http://{wanted.host}", folder / "mirror", storage=storage)
    return sync_by_command(profile, more=_LOGIN)


def _zot(program: str, wanted: Wanted, folder: Path, bucket: Bucket) -> Usage:
    key, secret = _LOGIN.values()
    driver = {**bucket.settings, "accesskey": key, "secretkey": secret, "skipverify": False}
    return zot_sync(program, wanted, folder, {"storageDriver": driver, "dedupe": False, "remoteCache": False})
