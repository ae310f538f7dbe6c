"""Registries brought in for the first time, from 20 ms away: images that share layers, sizes as in real ones.

Every contender is the whole command as a user types it, the start of its process included. Ours runs without
a Prefect server, and through a `mirrorflow up` that is running.
"""

from __future__ import annotations

import math
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness.ours import sync_by_command, up
from benchmarks.harness.peers.mirrors import MIRRORS, Wanted, present
from benchmarks.harness.peers.servers import free_port
from benchmarks.harness.processes import Usage, cpu_seconds, most_resident
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, AtMost, Better, Budget, Exactly, Row, Sample, side_by_side
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import ENTRY, Mirror, tagged
from benchmarks.harness.upstreams.proxy import proxied
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from benchmarks.harness.place import Place
    from benchmarks.harness.upstreams.bundled import Bundled
    from benchmarks.harness.upstreams.proxy import Proxy

UPSTREAM = "our own server behind a proxy that adds 20 ms to each request"
_LATENCY: Final = 0.02  # seconds a request
_PEERS: Final = tuple(MIRRORS)
_OURS: Final = ("mirrorflow sync", "sync through up")


@dataclass(frozen=True, slots=True)
class Case:
    mirror: Mirror
    rounds: int
    within: float = math.inf  # seconds, for all rounds


@dataclass(frozen=True, slots=True)
class Size:
    cases: tuple[Case, ...]


FULL = Size(
    (
        Case(Mirror(20, 4, 800_000), rounds=5, within=120),
        Case(Mirror(300, 20, 5_000_000, 2, 500_000_000), rounds=2, within=400),
    )
)
SMALL = Size((Case(Mirror(6, 2, 20_000), rounds=1),))


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's turn. `upstream`: CPU seconds of server and proxy in it; `most`: how often the blob was
    asked for that was asked for most."""

    usage: Usage
    upstream: float
    asked: Counter[str]
    most: int

    @property
    def requests(self) -> int:
        return self.asked.total() - self.asked["body bytes"]

    @property
    def gets(self) -> int:
        return self.asked["GET manifest"] + self.asked["GET blob"]


@dataclass(frozen=True, slots=True)
class Found:
    """Of one case: what each contender did, round by round."""

    case: Case
    digests: int
    turns: Mapping[str, list[Round]]

    def rows(self) -> Iterator[Row]:
        for ours in _OURS:
            compared = partial(self._compared, ours)
            yield compared(":s", lambda each: each.usage.wall, AtLeast(1, ">= 1 x"))
            yield compared(", CPU:s", lambda each: each.usage.cpu)
        alone = partial(self._compared, _OURS[0])
        yield alone(", requests", lambda each: each.requests)
        yield alone(", bytes from upstream:MB", lambda each: each.asked["body bytes"] / 1e6)
        yield alone(
            ", cores that upstream and proxy take", lambda each: each.upstream / each.usage.wall,
            better=Better.NEITHER,
        )  # fmt: skip
        yield self._counted("GETs of one digest, at most", 1, lambda each: each.most)
        yield self._counted("GETs of manifests and blobs", self.digests, lambda each: each.gets)
        memory = Sample.of(each.usage.peak / 1e6 for each in self.turns[_OURS[0]])
        yield Row("first_mirror", f"{self._what}, peak memory", "MB", memory, budget=AtMost(300, "MB"))

    @property
    def _what(self) -> str:
        return f"{self.case.mirror.images} images"

    def _compared(
        self,
        ours: str,
        what: str,
        value: Callable[[Round], float],
        budget: Budget | None = None,
        better: Better = Better.LESS,
    ) -> Row:
        """`what`: after a comma, and its unit behind a colon."""
        what, _, unit = what.partition(":")
        name = f"{self._what}, {ours}{what}"
        return Row("first_mirror", name, unit, *side_by_side(self.turns, value, ours, _PEERS), better, budget)

    def _counted(self, what: str, number: int, value: Callable[[Round], float]) -> Row:
        found = Sample.of(value(each) for name in _OURS for each in self.turns[name])
        return Row("first_mirror", f"{self._what}, {what}", "", found, budget=Exactly(number))


@dataclass(frozen=True, slots=True)
class Result:
    found: tuple[Found, ...]

    def rows(self) -> list[Row]:
        return [row for found in self.found for row in found.rows()]


def measure(place: Place, size: Size) -> Result:
    return Result(tuple(_measured(place, case) for case in size.cases))


def _measured(place: Place, case: Case) -> Found:
    folder = place.fresh("first_mirror")
    store = Store.open(folder / "upstream", durability="none")
    digests = case.mirror.fill(store)
    with bundled(store.root) as upstream, proxied(upstream.host, latency=_LATENCY) as proxy:
        wanted = Wanted(proxy.host, tagged(store))
        ours = dict(zip(_OURS, (_ours, _through_up), strict=True))
        contenders = {**ours, **present(place, *_PEERS)}
        turns = alternately(
            case.rounds,
            {
                name: partial(_turn, place, contender, wanted, upstream, proxy)
                for name, contender in contenders.items()
            },
            within=case.within,
            patience=2.5,
        )
    shutil.rmtree(folder)
    return Found(case, digests, turns)


def _turn(
    place: Place,
    contender: Callable[[Wanted, Path], Usage],
    wanted: Wanted,
    upstream: Bundled,
    proxy: Proxy,
) -> Round:
    servers = (upstream.pid, proxy.pid)
    with _for_a_while(place.fresh("turn")) as folder:
        proxy.asked()
        before = sum(map(cpu_seconds, servers))
        usage = contender(wanted, folder)
        used = sum(map(cpu_seconds, servers)) - before
        asked = proxy.asked()
        return Round(usage, used, asked, max(proxy.blobs.values()))


def _ours(wanted: Wanted, folder: Path) -> Usage:
    return sync_by_command(write_profile(folder, f"http://{wanted.host}", folder / "mirror"))


def _through_up(wanted: Wanted, folder: Path) -> Usage:
    """Its entry has no schedule, so that nothing is mirrored before. CPU is that of both commands, the
    Prefect server included, and memory that of the largest process."""
    http = {"port": free_port()}
    profile = write_profile(folder, f"http://{wanted.host}", folder / "mirror", http=http, onDemand=True)
    with up(profile) as pid:
        before = cpu_seconds(pid)
        usage = sync_by_command(profile, "--registry", ENTRY)
        return Usage(usage.wall, usage.cpu + cpu_seconds(pid) - before, most_resident(pid))


@contextmanager
def _for_a_while(folder: Path) -> Iterator[Path]:
    """Several gigabytes: gone before the next turn."""
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
