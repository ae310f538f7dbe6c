"""Pull-through caches side by side: what the first client waits for, eight at once, and one of a warm cache.

Each cache has a proxy of its own to the upstream, so that its transfers do not slow down the others.
A warm tag is asked for upstream again, which is the default of all of them.
"""

from __future__ import annotations

import math
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness import pulls
from benchmarks.harness.ours import up
from benchmarks.harness.peers.servers import docker_registry, free_port, zot
from benchmarks.harness.place import touch_memory
from benchmarks.harness.processes import await_quiet
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, Exactly, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.content import image, put
from benchmarks.harness.upstreams.layouts import to_distribution
from benchmarks.harness.upstreams.proxy import proxied
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.harness.peers.servers import Server
    from benchmarks.harness.place import Place
    from benchmarks.harness.upstreams.proxy import Proxy

UPSTREAM = "docker-registry behind a proxy for each contender (20 ms a request, 200 MB/s)"
_BANDWIDTH: Final = 200e6  # bytes a second
_LATENCY: Final = 0.02  # seconds a request
_CLIENTS: Final = 8
_PEERS: Final = {"zot": "zot", "distribution 3": "registry"}  # name -> program
_WARM: Final = 10  # pulls of one round


@dataclass(frozen=True, slots=True)
class Size:
    big: int
    rounds: int
    within: float = math.inf  # seconds, for all rounds of one question


FULL = Size(big=2**29, rounds=3, within=90)
SMALL = Size(big=2_000_000, rounds=1)


@dataclass(frozen=True, slots=True)
class Cache:
    """A contender: where clients ask, and the proxy that it asks."""

    host: str
    proxy: Proxy


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds by question and contender; the bodies that upstream sent ours for one blob that 8 wanted."""

    size: Size
    seconds: Mapping[str, Mapping[str, list[float]]]
    most: int

    def rows(self) -> list[Row]:
        once = Row(
            "pull_through", f"{_CLIENTS} clients at once: GETs of one blob upstream, at most", "",
            Sample.of([self.most]), budget=Exactly(1),
        )  # fmt: skip
        return [*(self._row(what, found) for what, found in self.seconds.items()), once]

    def _row(self, what: str, found: Mapping[str, list[float]]) -> Row:
        samples = {name: Sample.of(each) for name, each in found.items()}
        peers = {name: samples.get(name) for name in _PEERS}
        return Row("pull_through", what, "s", samples["ours"], peers, budget=AtLeast(1.25))


def measure(place: Place, size: Size) -> Result:
    folder = place.fresh("pull_through")
    tree = _fill(folder, size)
    with ExitStack() as held:
        source = held.enter_context(docker_registry(place.program("docker-registry"), folder, tree)).host
        caches = _caches(place, held, source)
        for cache in caches.values():  # it is there, with all that it needs
            pulls.wait_for_image(cache.host, "small/start", "latest")
        asking = _Asking(folder, caches, size)
        big = f"{size.big / 2**20:.0f} MiB"
        found = {
            "small image, cold": asking.rounds(lambda host, n: _one(host, f"small/{n}")),
            "small image, warm": asking.rounds(lambda host, _: _warm(host, "small/start")),
            f"cold, {big}": asking.rounds(lambda host, n: _one(host, f"big/one-{n}"), big=True),
        }
        caches["ours"].proxy.asked()
        herd = asking.rounds(lambda host, n: _herd(host, f"big/herd-{n}"), big=True)
        caches["ours"].proxy.asked()
        most = max(caches["ours"].proxy.blobs.values())
    shutil.rmtree(folder)
    return Result(size, {**found, f"cold, {big}, {_CLIENTS} clients at once": herd}, most)


def _fill(folder: Path, size: Size) -> Path:
    """Each image is pulled in one round, so that it is cold."""
    store = Store.open(folder / "upstream", durability="none")
    small = ["small/start", *(f"small/{number}" for number in range(size.rounds))]
    big = [f"big/{kind}-{number}" for kind in ("one", "herd") for number in range(size.rounds)]
    for name, length in [*((each, 20_000) for each in small), *((each, size.big) for each in big)]:
        image(store, name, name, [put(store, name, name, length)], "latest")
    return to_distribution(store, folder / "distribution")


def _caches(place: Place, held: ExitStack, source: str) -> dict[str, Cache]:
    programs = place.optional(*_PEERS.values())
    names = ["ours", *(name for name, program in _PEERS.items() if program in programs)]
    found = {}
    for name in names:
        folder = place.fresh(name.replace(" ", "-"))
        proxy = held.enter_context(proxied(source, latency=_LATENCY, bandwidth=_BANDWIDTH))
        if name == "ours":
            found[name] = Cache(_ours(held, folder, proxy), proxy)
        else:
            opened = _zot if name == "zot" else _distribution
            server = held.enter_context(opened(programs[_PEERS[name]], folder, proxy))
            found[name] = Cache(server.host, proxy)
    return found


def _ours(held: ExitStack, folder: Path, proxy: Proxy) -> str:
    """With a Prefect server of its own, as `up` has it: a shared one takes each deployment of one store."""
    port = free_port()
    profile = write_profile(folder, proxy.url, folder / "mirror", http={"port": port}, onDemand=True)
    held.enter_context(up(profile))
    return f"127.0.0.1:{port}"


def _zot(program: str, folder: Path, proxy: Proxy) -> AbstractContextManager[Server]:
    entry = {"urls": [proxy.url], "content": [{"prefix": "**"}], "tlsVerify": False, "onDemand": True}
    return zot(program, folder, folder / "zot", entry)


def _distribution(program: str, folder: Path, proxy: Proxy) -> AbstractContextManager[Server]:
    return docker_registry(program, folder, folder / "cache", proxy={"remoteurl": proxy.url})


@dataclass(frozen=True, slots=True)
class _Asking:
    """Each contender is asked in its turn, when what it was asked before has settled."""

    folder: Path
    caches: Mapping[str, Cache]
    size: Size

    def rounds(self, ask: Callable[[str, int], float], *, big: bool = False) -> dict[str, list[float]]:
        numbers = {name: iter(range(self.size.rounds)) for name in self.caches}

        def turn(name: str) -> float:
            await_quiet()
            if big:
                touch_memory(self.folder, self.size.big)
            return ask(self.caches[name].host, next(numbers[name]))

        contenders = {name: partial(turn, name) for name in self.caches}
        return alternately(self.size.rounds, contenders, within=self.size.within)


def _one(host: str, name: str) -> float:
    return pulls.wait_for_image(host, name, "latest")


def _warm(host: str, name: str) -> float:
    """The mean of some pulls, one after the other."""
    return sum(pulls.wait_for_image(host, name, "latest") for _ in range(_WARM)) / _WARM


def _herd(host: str, name: str) -> float:
    """Until the last client has it."""
    began = time.perf_counter()
    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(lambda _: pulls.wait_for_image(host, name, "latest"), range(_CLIENTS)))
    return time.perf_counter() - began
