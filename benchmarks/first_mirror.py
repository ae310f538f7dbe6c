"""A registry brought in for the first time, from 20 ms away: images that share layers, sizes as in real ones.

Against skopeo sync into an empty docker-registry, which is the quickest way to a mirror that skopeo has: into
a folder it would fetch a shared layer again for each image. Upstream: our own server, behind a proxy.
"""

from __future__ import annotations

import json
import math
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import urlopen

from benchmarks.harness.ours import sync_by_flow
from benchmarks.harness.peers.servers import docker_registry
from benchmarks.harness.processes import run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, AtMost, Exactly, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Mirror
from benchmarks.harness.upstreams.proxy import Proxy, proxied
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.harness.place import Place
    from benchmarks.harness.processes import Usage
    from benchmarks.harness.report.rows import Budget

UPSTREAM = "our own server behind a proxy that adds 20 ms to each request"
LATENCY = 0.02  # seconds a request


@dataclass(frozen=True, slots=True)
class Size:
    mirror: Mirror
    rounds: int
    within: float = math.inf  # seconds, for all rounds


FULL = Size(Mirror(300, 20, 5_000_000, 2, 500_000_000), rounds=2, within=200)
SMALL = Size(Mirror(6, 2, 20_000, 1, 5_000_000), rounds=1)


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's turn. `most` is how often the blob was asked for that was asked for most."""

    usage: Usage
    asked: Counter[str]
    most: int

    @property
    def requests(self) -> int:
        return self.asked.total() - self.asked["body bytes"]

    @property
    def gets(self) -> int:
        return self.asked["GET manifest"] + self.asked["GET blob"]


@dataclass(frozen=True, slots=True)
class Result:
    size: Size
    digests: int
    ours: tuple[Round, ...]
    skopeo: tuple[Round, ...]

    def rows(self) -> list[Row]:
        what = f"first mirror of {self.size.mirror.images} images"
        half = AtLeast(2, "<= 0.5 x the time")
        memory = Sample.of(each.usage.peak / 1e6 for each in self.ours)
        return [
            self._compared(what, "s", lambda each: each.usage.wall, half),
            self._compared(f"{what}, CPU", "s", lambda each: each.usage.cpu),
            self._compared("requests", "", lambda each: each.requests),
            self._compared("bytes from upstream", "MB", lambda each: each.asked["body bytes"] / 1e6),
            self._counted("GETs of one digest, at most", 1, lambda each: each.most),
            self._counted("GETs of manifests and blobs", self.digests, lambda each: each.gets),
            Row("first_mirror", "peak memory", "MB", memory, budget=AtMost(300, "MB")),
        ]

    def _compared(
        self, what: str, unit: str, value: Callable[[Round], float], budget: Budget | None = None
    ) -> Row:
        ours, skopeo = (Sample.of(map(value, side)) for side in (self.ours, self.skopeo))
        return Row("first_mirror", what, unit, ours, "skopeo sync", skopeo, budget=budget)

    def _counted(self, what: str, number: int, value: Callable[[Round], float]) -> Row:
        return Row("first_mirror", what, "", Sample.of(map(value, self.ours)), budget=Exactly(number))


def measure(place: Place, size: Size) -> Result:
    skopeo, registry = place.program("skopeo"), place.program("docker-registry")
    url, folder = place.prefect_url, place.fresh("first_mirror")
    digests = size.mirror.fill(Store.open(folder / "upstream", durability="none"))
    with bundled(folder / "upstream") as upstream, proxied(upstream.host, latency=LATENCY) as proxy:
        turns = alternately(
            size.rounds,
            {
                "ours": lambda: _ours(place.fresh("ours"), url, proxy),
                "skopeo": lambda: _skopeo(skopeo, registry, place.fresh("skopeo"), proxy),
            },
            within=size.within,
        )
    shutil.rmtree(folder)
    return Result(size, digests, tuple(turns["ours"]), tuple(turns["skopeo"]))


def _ours(folder: Path, prefect_url: str, proxy: Proxy) -> Round:
    with _for_a_while(folder):
        done = sync_by_flow(write_profile(folder, proxy.url, folder / "mirror"), prefect_url)
        return _round(done.usage, proxy)


def _skopeo(skopeo: str, registry: str, folder: Path, proxy: Proxy) -> Round:
    """It cannot list a catalog: a file names the repositories."""
    with _for_a_while(folder), docker_registry(registry, folder, folder / "mirror") as target:
        wanted = folder / "wanted.yml"
        names = "".join(f"    {name}: []\n" for name in _repositories(proxy))
        wanted.write_text(f"{proxy.host}:\n  tls-verify: false\n  images:\n{names}")
        proxy.asked()
        command = [skopeo, "sync", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false"]
        done = run([*command, str(wanted), target.host])
        return _round(done.usage, proxy)


def _repositories(proxy: Proxy) -> list[str]:
    with urlopen(f"{proxy.url}/v2/_catalog") as answer:  # noqa: S310 - our own server
        names: list[str] = json.load(answer)["repositories"]
    return names


def _round(usage: Usage, proxy: Proxy) -> Round:
    asked = proxy.asked()
    return Round(usage, asked, max(proxy.blobs.values()))


@contextmanager
def _for_a_while(folder: Path) -> Iterator[None]:
    """Several gigabytes: gone before the next turn."""
    try:
        yield
    finally:
        shutil.rmtree(folder)
