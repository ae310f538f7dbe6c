"""A poll that finds nothing new: one HEAD a tag and the lists of tags, and what the rest of a poll costs."""

from __future__ import annotations

import json
import math
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness.ours import environment, sync_plainly
from benchmarks.harness.peers.servers import docker_registry
from benchmarks.harness.processes import run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtMost, Exactly, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Poll
from benchmarks.harness.upstreams.layouts import to_distribution
from profiles.model.registry_entry import RegistryEntry
from registry_server.store.store import Store
from tasks.upstream.lists.paging import PAGE

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.harness.place import Place
    from benchmarks.harness.upstreams.bundled import Bundled

UPSTREAM = "our own server"
_FEW = 3  # repositories
WIDTH = int(RegistryEntry.model_fields["req_concurrent"].default)


@dataclass(frozen=True, slots=True)
class Size:
    tags: int
    repositories: int
    rounds: int
    within: float = math.inf  # seconds, for all rounds


FULL = Size(tags=10_000, repositories=50, rounds=3, within=60)
SMALL = Size(tags=60, repositories=3, rounds=1)


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's turn: seconds of its work alone, bytes of memory, and what upstream was asked."""

    wall: float
    cpu: float
    peak: int
    asked: Counter[str]


@dataclass(frozen=True, slots=True)
class Result:
    size: Size
    ours: tuple[Round, ...]
    companions: tuple[Round, ...]
    bare: tuple[Round, ...]
    regsync: tuple[Round, ...] = ()

    def rows(self) -> list[Row]:
        pages = self.size.repositories * list_pages(self.size.tags // self.size.repositories)
        return [
            asked("nothing_new", "HEADs of manifests", self.ours, "HEAD manifest", self.size.tags),
            asked("nothing_new", "GETs of manifests", self.ours, "GET manifest", 0),
            asked("nothing_new", "pages of tags", self.ours, "GET tags", pages),
            *costs("nothing_new", f"poll of {self.size.tags:,} tags", self.ours, self.bare),
            self._companions(),
            *self._against_regsync(),
        ]

    def _against_regsync(self) -> list[Row]:
        if not self.regsync:
            return []
        ours, theirs = (Sample.of(each.wall for each in side) for side in (self.ours, self.regsync))
        return [Row("nothing_new", f"poll of {self.size.tags:,} tags", "s", ours, "regsync once", theirs)]

    def _companions(self) -> Row:
        """By default companions follow, which is one question more for each digest, and no manifest."""
        what, without = f"lists of referrers, {_FEW} repositories, companions follow", self.ours
        assert not any(each.asked["GET referrers"] for each in without)
        digests = min(_FEW * self.size.tags // self.size.repositories, _FEW * Poll.images)
        return asked("nothing_new", what, self.companions, "GET referrers", digests)


def list_pages(tags: int) -> int:
    """Requests for the tags of one repository. A list without a Link that ends at a round number may have
    been cut there without a word, so one more page is asked for (tasks/upstream/lists/paging.py)."""
    return math.ceil(tags / PAGE) + (tags <= PAGE and tags % 50 == 0)


def asked(name: str, what: str, ours: Sequence[Round], kind: str, number: int) -> Row:
    return Row(name, what, "", Sample.of(each.asked[kind] for each in ours), budget=Exactly(number))


def costs(name: str, what: str, ours: Sequence[Round], bare: Sequence[Round]) -> list[Row]:
    """Wall and CPU against the bare HEADs, and memory."""
    against = f"the HEADs alone, http.client, {WIDTH} threads"
    walls, bare_walls = ([each.wall for each in side] for side in (ours, bare))
    cpus, bare_cpus = ([each.cpu for each in side] for side in (ours, bare))
    memory = Sample.of(each.peak / 1e6 for each in ours)
    return [
        Row(name, what, "s", Sample.of(walls), against, Sample.of(bare_walls)),
        Row(name, f"{what}, CPU", "s", Sample.of(cpus), against, Sample.of(bare_cpus)),
        Row(name, f"{what}, peak memory", "MB", memory, budget=AtMost(300, "MB")),
    ]


def measure(place: Place, size: Size) -> Result:
    folder = place.fresh("nothing_new")
    poll = Poll(size.tags, size.repositories)
    poll.fill(Store.open(folder / "upstream", durability="none"))
    poll.fill(Store.open(folder / "mirror", durability="none"), mirrored=True)
    with bundled(folder / "upstream") as upstream:
        profile = write_profile(folder, upstream.url, folder / "mirror", referrers={"follow": False})
        some = [{"prefix": poll.name(number)} for number in range(_FEW)]
        default = write_profile(place.fresh("default"), upstream.url, folder / "mirror", content=some)
        paths = write_paths(folder, poll)
        contenders = {"ours": lambda: _ours(profile, upstream), "bare": lambda: bare_heads(paths, upstream)}
        with ExitStack() as held:
            for program in place.optional("regsync").values():
                registry = place.program("docker-registry")
                theirs = held.enter_context(_regsync(program, registry, folder, upstream, poll))
                contenders["regsync"] = theirs
            turns = alternately(size.rounds, contenders, within=size.within)
        companions = _ours(default, upstream)
    ours, bare, regsync = (tuple(turns.get(name, ())) for name in ("ours", "bare", "regsync"))
    return Result(size, ours, (companions,), bare, regsync)


@contextmanager
def _regsync(
    program: str, registry: str, folder: Path, upstream: Bundled, poll: Poll
) -> Iterator[Callable[[], Round]]:
    """Into a docker-registry that has everything already."""
    root = to_distribution(Store.open(folder / "upstream"), folder / "distribution")
    with docker_registry(registry, folder, root) as target:
        creds = [{"registry": host, "tls": "disabled"} for host in (upstream.host, target.host)]
        names = [poll.name(number) for number in range(poll.repositories)]
        sync = [
            {"source": f"{upstream.host}/{name}", "target": f"{target.host}/{name}", "type": "repository"}
            for name in names
        ]
        config = folder / "regsync.yml"
        config.write_text(json.dumps({"version": 1, "creds": creds, "sync": sync}))  # JSON is YAML

        def once() -> Round:
            done = run([program, "-c", str(config), "once"])
            return Round(done.usage.wall, done.usage.cpu, done.usage.peak, upstream.asked())

        yield once


def _ours(profile: Path, upstream: Bundled) -> Round:
    done = sync_plainly(profile)
    if done.totals["copied"]:
        raise AssertionError(f"nothing was new, and yet: {done.totals}")
    return Round(done.wall, done.cpu, done.usage.peak, upstream.asked())


def bare_heads(paths: Path, upstream: Bundled) -> Round:
    command = [
        sys.executable,
        "-m",
        "benchmarks.harness.programs.bare_heads",
        upstream.host,
        str(WIDTH),
        str(paths),
    ]
    done = run(command, environment=environment())
    found = json.loads(done.output)
    return Round(found["wall"], found["cpu"], done.usage.peak, upstream.asked())


def write_paths(folder: Path, poll: Poll) -> Path:
    path = folder / "paths"
    path.write_text("\n".join(f"/v2/{poll.name(tag)}/manifests/v{tag}" for tag in range(poll.tags)))
    return path
