"""A cache that is empty, and one whose upstream is ill: what clients of `mirrorflow up` wait for.

Upstream: docker-registry, behind a proxy that limits its bandwidth, counts, and hangs when told to.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness import pulls
from benchmarks.harness.ours import up
from benchmarks.harness.peers.servers import docker_registry, free_port
from benchmarks.harness.place import touch_memory
from benchmarks.harness.processes import await_quiet, most_resident, run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, AtMost, Beyond, Exactly, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.content import image, put
from benchmarks.harness.upstreams.layouts import to_distribution
from benchmarks.harness.upstreams.proxy import Proxy, proxied
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from benchmarks.harness.place import Place

UPSTREAM = "docker-registry behind the proxy (20 ms a request, 200 MB/s for large layers)"
_BANDWIDTH: Final = 200e6  # bytes a second
_LATENCY: Final = 0.02  # seconds a request
_CONNECT: Final = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Size:
    big: int
    layer: int
    clients: int
    misses: int
    rounds: int


FULL = Size(big=2**30, layer=25_000_000, clients=50, misses=30, rounds=2)
SMALL = Size(big=3_000_000, layer=100_000, clients=5, misses=3, rounds=1)


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds, `ours` and `direct`, but for the clients that got every digest right, the most GETs that one
    blob cost upstream, and the most memory of one process in bytes."""

    size: Size
    first_bytes: Mapping[str, tuple[float, ...]]
    skopeo: Mapping[str, tuple[float, ...]]
    misses: Mapping[str, tuple[float, ...]]
    burst: Mapping[str, tuple[float, ...]]
    herd: tuple[int, int, float]
    hits: tuple[float, ...]
    hanging: tuple[float, ...]
    peak: int

    def rows(self) -> list[Row]:
        big = f"{self.size.big / 2**20:.0f} MiB"
        right, asked, seconds = self.herd
        clients = f"{self.size.clients} clients at once, cold"
        hits, hanging = Sample(self.hits), Sample(self.hanging[1:])
        once = AtMost(_CONNECT + 0.25, "s")  # and what the hit itself takes
        return [
            self._row(f"first byte of a layer of {big}", self.first_bytes, Beyond(0.5)),
            self._row(f"whole image of {big}, skopeo", self.skopeo, AtLeast(1 / 1.15, "<= 1.15 x the time")),
            self._row("a miss", self.misses, Beyond(0.25)),
            self._row(f"{self.size.misses} misses at once, the slowest", self.burst, Beyond(0.25)),
            _row(f"{clients}: right", "", [right], budget=Exactly(self.size.clients)),
            _row(f"{clients}: GETs of one blob upstream, at most", "", [asked], budget=Exactly(1)),
            _row(f"{clients}: until the last has it", "s", [seconds]),
            _row("hit while upstream hangs, the first", "s", self.hanging[:1], budget=once),
            Row(
                "on_demand", "hit while upstream hangs, the others", "s", hanging, {"upstream is well": hits},
                budget=Beyond(0.05),
            ),
            _row("peak memory of a process", "MB", [self.peak / 1e6], budget=AtMost(300, "MB")),
        ]  # fmt: skip

    @staticmethod
    def _row(what: str, found: Mapping[str, tuple[float, ...]], budget: Beyond | AtLeast) -> Row:
        ours, direct = (Sample(found[name]) for name in ("ours", "direct"))
        return Row("on_demand", what, "s", ours, {"direct": direct}, budget=budget)


def _row(what: str, unit: str, values: Iterable[float], budget: AtMost | Exactly | None = None) -> Row:
    return Row("on_demand", what, unit, Sample.of(values), budget=budget)


def measure(place: Place, size: Size) -> Result:
    skopeo, registry = place.program("skopeo"), place.program("docker-registry")
    url, folder = place.prefect_url, place.fresh("on_demand")
    tree = _fill(folder, size)
    with (
        docker_registry(registry, folder, tree) as upstream,
        proxied(upstream.host, latency=_LATENCY) as proxy,
        _served(folder, proxy, url) as (host, pid),
    ):
        hosts = {"ours": host, "direct": proxy.host}
        found = _measured(skopeo, folder, hosts, proxy, size)
        result = Result(size, **found, peak=most_resident(pid))  # type: ignore[arg-type] # as _measured made it
    shutil.rmtree(folder)
    return result


def _fill(folder: Path, size: Size) -> Path:
    """Each image is pulled once, so that it is cold."""
    store = Store.open(folder / "upstream", durability="none")
    for number in range(size.rounds):
        for kind in ("byte", "skopeo"):
            name = f"big/{kind}-{number}"
            image(store, name, "big", [put(store, name, name, size.big)], "latest")
        for each in range(size.misses + 1):
            name = f"small/{number}-{each}"
            image(store, name, "small", [put(store, name, name, 2000)], "latest")
    image(store, "herd", "herd", [put(store, "herd", f"herd-{n}", size.layer) for n in range(4)], "latest")
    return to_distribution(store, folder / "distribution")


@contextmanager
def _served(folder: Path, proxy: Proxy, prefect_url: str) -> Iterator[tuple[str, int]]:
    """`mirrorflow up`: the host of its registry, and its process id."""
    port = free_port()
    profile = write_profile(
        folder, proxy.url, folder / "mirror", http={"port": port}, onDemand=True, connectTimeout=_CONNECT
    )
    with up(profile, PREFECT_API_URL=prefect_url) as pid:
        pulls.manifest(f"127.0.0.1:{port}", "small/0-0", "latest")  # the receiver of misses is there
        yield f"127.0.0.1:{port}", pid


def _measured(
    skopeo: str, folder: Path, hosts: Mapping[str, str], proxy: Proxy, size: Size
) -> dict[str, object]:
    """In this order: the upstream hangs at the end."""
    misses, burst = _misses(hosts, size), _burst(hosts, size)
    proxy.become(latency=0)
    proxy.asked()
    right, seconds = pulls.all_at_once(size.clients, hosts["ours"], "herd", "latest")
    proxy.asked()
    most = max(proxy.blobs.values())
    proxy.become(bandwidth=_BANDWIDTH)
    first_bytes = _rounds(hosts, size, _first_byte)
    whole = _rounds(hosts, size, partial(_skopeo, skopeo, folder, 2 * size.big))
    hits = tuple(pulls.manifest(hosts["ours"], "herd", "latest").whole for _ in range(20))
    proxy.become(hang=1)
    hanging = tuple(pulls.manifest(hosts["ours"], "herd", "latest").whole for _ in range(21))
    proxy.become(hang=0)
    return {
        "misses": misses, "burst": burst, "herd": (right, most, seconds), "first_bytes": first_bytes,
        "skopeo": whole, "hits": hits, "hanging": hanging,
    }  # fmt: skip


def _rounds(
    hosts: Mapping[str, str], size: Size, work: Callable[[str, int], float]
) -> dict[str, tuple[float, ...]]:
    numbers = {name: iter(range(size.rounds)) for name in hosts}

    def turn(name: str) -> float:
        await_quiet()
        return work(hosts[name], next(numbers[name]))

    turns = alternately(size.rounds, {name: partial(turn, name) for name in hosts})
    return {name: tuple(each) for name, each in turns.items()}


def _misses(hosts: Mapping[str, str], size: Size) -> dict[str, tuple[float, ...]]:
    return _rounds(
        hosts, size, lambda host, n: pulls.manifest(host, f"small/{n}-{size.misses}", "latest").whole
    )


def _burst(hosts: Mapping[str, str], size: Size) -> dict[str, tuple[float, ...]]:
    def slowest(host: str, number: int) -> float:
        names = [
            f"small/{number}-{each}" for each in range(number == 0, size.misses)
        ]  # 0-0 said that it is up
        return max(pulls.manifests_at_once(host, names, "latest"))

    return _rounds(hosts, size, slowest)


def _first_byte(host: str, number: int) -> float:
    name = f"big/byte-{number}"
    layer = json.loads(pulls.manifest(host, name, "latest").body)["layers"][0]["digest"]
    got = pulls.blob(host, name, layer)
    assert got.digest == layer
    return got.first


def _skopeo(program: str, folder: Path, needed: int, host: str, number: int) -> float:
    target = folder / "pulled"
    touch_memory(folder, needed)
    source = f"docker://{host}/big/skopeo-{number}:latest"
    done = run([program, "copy", "--src-tls-verify=false", source, f"dir:{target}"])
    shutil.rmtree(target)
    return done.usage.wall
