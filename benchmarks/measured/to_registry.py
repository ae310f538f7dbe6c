"""A registry brought into another one, from nothing and once more with nothing new: ours, skopeo, regsync.

Each contender has a docker-registry of its own, which writes down what it is asked. regsync takes part twice:
as it is, with one image at a time, and with eight.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness.ours import sync_plainly
from benchmarks.harness.peers.servers import docker_registry
from benchmarks.harness.processes import run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, Exactly, Row, Sample, side_by_side
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Mirror, tagged
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from benchmarks.harness.peers.servers import Server
    from benchmarks.harness.place import Place
    from benchmarks.harness.processes import Usage
    from benchmarks.harness.report.rows import Budget
    from benchmarks.harness.upstreams.bundled import Bundled

UPSTREAM = "our own server"
_PARALLEL: Final = 8
_LINE: Final = re.compile(r'"([A-Z]+) /v2/(\S*) HTTP/[\d.]+" (\d{3}) ')
_PEERS: Final = ("skopeo sync", "regsync")

Repositories = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Size:
    mirror: Mirror
    rounds: int
    within: float = math.inf  # seconds, for all rounds


FULL = Size(Mirror(300, 20, 1_000_000), rounds=2, within=420)
SMALL = Size(Mirror(6, 2, 20_000), rounds=1)


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's turn: into an empty registry, and again. `most`: how often one blob was completed."""

    first: Usage
    again: Usage
    asked: int
    asked_again: int
    most: int


@dataclass(frozen=True, slots=True)
class Result:
    size: Size
    tags: int
    turns: Mapping[str, tuple[Round, ...]]

    def rows(self) -> list[Row]:
        what = f"{self.size.mirror.images} images into a docker-registry"
        ours = self.turns["ours"]
        again, most = Sample.of(each.asked_again for each in ours), Sample.of(each.most for each in ours)
        found = [
            Row("to_registry", "requests, nothing new", "", again, budget=Exactly(self.tags)),
            Row("to_registry", "one blob was stored, at most", "", most, budget=Exactly(1)),
        ]
        return [
            *found,
            self._compared(what, "s", lambda each: each.first.wall, AtLeast(1)),
            self._compared(f"{what}, CPU", "s", lambda each: each.first.cpu),
            self._compared("requests to the destination", "", lambda each: each.asked, AtLeast(1)),
            self._compared("the same with nothing new", "s", lambda each: each.again.wall),
        ]

    def _compared(
        self, what: str, unit: str, value: Callable[[Round], float], budget: Budget | None = None
    ) -> Row:
        compared = side_by_side(self.turns, value, "ours", _PEERS)
        return Row("to_registry", what, unit, *compared, budget=budget)


def measure(place: Place, size: Size) -> Result:
    programs = {"skopeo sync": place.program("skopeo")}
    for program in place.optional("regsync").values():
        programs |= {"regsync": program, f"regsync, {_PARALLEL} at a time": program}
    registry, folder = place.program("docker-registry"), place.fresh("to_registry")
    store = Store.open(folder / "upstream", durability="none")
    size.mirror.fill(store)
    wanted = tagged(store)
    with bundled(folder / "upstream") as upstream:

        def turn(name: str) -> Round:
            folder, log = place.fresh("turn"), place.root / "access.log"
            with docker_registry(registry, folder, folder / "root", access_log=log) as target:
                work = _contender(name)(programs.get(name, ""), folder, upstream, target, wanted)
                found = _turn(work, log)
            shutil.rmtree(folder)
            return found

        names = ("ours", *programs)
        turns = alternately(size.rounds, {name: partial(turn, name) for name in names}, within=size.within)
    shutil.rmtree(folder)
    tags = sum(map(len, wanted.values()))
    return Result(size, tags, {name: tuple(found) for name, found in turns.items()})


def _contender(name: str) -> Callable[..., Callable[[], Usage]]:
    if name.startswith("regsync"):
        return partial(_regsync, parallel=1 if name == "regsync" else _PARALLEL)
    return _ours if name == "ours" else _skopeo


def _turn(work: Callable[[], Usage], log: Path) -> Round:
    log.write_text("")
    first = work()
    asked, most = _asked(log), _most_stored(log)
    return Round(first, work(), asked, _asked(log) - asked, most)


def _asked(log: Path) -> int:
    """`/v2/` itself is no request for anything."""
    return sum(bool(target) for _, target, _ in _LINE.findall(log.read_text()))


def _most_stored(log: Path) -> int:
    done = [
        target
        for method, target, status in _LINE.findall(log.read_text())
        if (method, status) == ("PUT", "201")
    ]
    blobs = Counter(
        (target.partition("/blobs/")[0], found[0])
        for target in done
        if (found := re.findall(r"digest=([^&]+)", target))
    )
    return max(blobs.values(), default=0)


def _ours(
    _program: str, folder: Path, upstream: Bundled, target: Server, wanted: Repositories
) -> Callable[[], Usage]:
    profile = write_profile(
        folder,
        upstream.url,
        folder / "state",
        more={"destinations": [{"name": "other", "url": target.url}]},
        to=["other"],
        content=[{"prefix": name} for name in wanted],
        referrers={"follow": False},
    )
    return lambda: sync_plainly(profile).usage


def _skopeo(
    program: str, folder: Path, upstream: Bundled, target: Server, wanted: Repositories
) -> Callable[[], Usage]:
    file = folder / "skopeo.yml"
    file.write_text(json.dumps({_host(upstream): {"tls-verify": False, "images": wanted}}))
    options = ["--src", "yaml", "--dest", "docker", "--dest-tls-verify=false", "--all"]
    return lambda: run([program, "sync", *options, str(file), target.host]).usage


def _regsync(
    program: str,
    folder: Path,
    upstream: Bundled,
    target: Server,
    wanted: Repositories,
    *,
    parallel: int,
) -> Callable[[], Usage]:
    hosts = (_host(upstream), target.host)
    document = {
        "version": 1,
        "creds": [{"registry": host, "tls": "disabled"} for host in hosts],
        "defaults": {"parallel": parallel},
        "sync": [
            {"source": f"{hosts[0]}/{name}", "target": f"{hosts[1]}/{name}", "type": "repository"}
            for name in wanted
        ],
    }
    file = folder / "regsync.yml"
    file.write_text(json.dumps(document))
    return lambda: run([program, "once", "-c", str(file)]).usage


def _host(upstream: Bundled) -> str:
    return upstream.url.partition("//")[2]
