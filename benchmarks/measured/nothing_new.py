"""A poll that finds nothing new: one HEAD a tag and the lists of tags, and what the rest of a poll costs.

Ours and those of others are the whole command as a user types it, over a mirror that has everything already.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness.ours import environment, sync_by_command
from benchmarks.harness.peers.mirrors import WIDTH, Wanted, present
from benchmarks.harness.processes import Usage, cpu_seconds, run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, AtMost, Better, Exactly, Row, Sample, side_by_side
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Poll, tagged
from benchmarks.harness.upstreams.layouts import to_layouts
from registry_server.store.store import Store
from tasks.upstream.lists.paging import PAGE

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.harness.place import Place
    from benchmarks.harness.report.rows import Budget
    from benchmarks.harness.upstreams.bundled import Bundled

UPSTREAM = "our own server"
BARE: Final = f"the HEADs alone, http.client, {WIDTH} threads"
_FEW: Final = 3  # repositories
_NEAR_BARE: Final = 1.3 if (os.cpu_count() or 1) > 1 else 2.0  # times the bare HEADs


@dataclass(frozen=True, slots=True)
class Case:
    """`peers`: who polls too. crane has no poll: it would copy everything again."""

    poll: Poll
    peers: tuple[str, ...]
    rounds: int
    within: float = math.inf  # seconds, for all rounds


@dataclass(frozen=True, slots=True)
class Size:
    cases: tuple[Case, ...]


_ALL: Final = ("regsync to ocidir", "zot sync", "oras cp")
FULL = Size(
    (
        Case(Poll(50, 5), _ALL, rounds=5, within=60),
        Case(Poll(10_000, 50), _ALL[:2], rounds=3, within=150),
    )
)
SMALL = Size((Case(Poll(60, 3), _ALL, rounds=1),))


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's turn: seconds, bytes of memory, CPU seconds of the upstream and what it was asked."""

    wall: float
    cpu: float
    peak: int
    upstream: float
    asked: Counter[str]


@dataclass(frozen=True, slots=True)
class Found:
    """Of one case: what each contender did, round by round; and a run with companions."""

    case: Case
    turns: Mapping[str, list[Round]]
    companions: Round

    def rows(self) -> list[Row]:
        poll, ours = self.case.poll, self.turns["ours"]
        what = f"poll of {poll.tags:,} tags"
        pages = poll.repositories * list_pages(poll.tags // poll.repositories)
        return [
            asked("nothing_new", f"{what}: HEADs of manifests", ours, "HEAD manifest", poll.tags),
            asked("nothing_new", f"{what}: GETs of manifests", ours, "GET manifest", 0),
            asked("nothing_new", f"{what}: pages of tags", ours, "GET tags", pages),
            self._row(what, lambda each: each.wall, self.case.peers, AtLeast(1.25)),
            self._row(f"{what}, CPU", lambda each: each.cpu, self.case.peers),
            self._row(
                f"{what}, cores that the upstream takes", lambda each: each.upstream / each.wall,
                (*self.case.peers, BARE), better=Better.NEITHER,
            ),
            *costs("nothing_new", what, self.turns),
            self._companions(what),
        ]  # fmt: skip

    def _row(
        self,
        what: str,
        value: Callable[[Round], float],
        peers: Sequence[str],
        budget: Budget | None = None,
        better: Better = Better.LESS,
    ) -> Row:
        unit = "s" if better is Better.LESS else ""
        return Row("nothing_new", what, unit, *side_by_side(self.turns, value, "ours", peers), better, budget)

    def _companions(self, what: str) -> Row:
        """By default companions follow, which is one question more for each digest, and no manifest."""
        assert not any(each.asked["GET referrers"] for each in self.turns["ours"])
        poll, name = self.case.poll, f"{what}: lists of referrers, {_FEW} repositories, companions follow"
        digests = min(_FEW * poll.tags // poll.repositories, _FEW * Poll.images)
        return asked("nothing_new", name, [self.companions], "GET referrers", digests)


@dataclass(frozen=True, slots=True)
class Result:
    found: tuple[Found, ...]

    def rows(self) -> list[Row]:
        return [row for found in self.found for row in found.rows()]


def list_pages(tags: int) -> int:
    """Requests for the tags of one repository. A list without a Link that ends at a round number may have
    been cut there without a word, so one more page is asked for (tasks/upstream/lists/paging.py)."""
    return math.ceil(tags / PAGE) + (tags <= PAGE and tags % 50 == 0)


def asked(name: str, what: str, ours: Sequence[Round], kind: str, number: int) -> Row:
    return Row(name, what, "", Sample.of(each.asked[kind] for each in ours), budget=Exactly(number))


def costs(name: str, what: str, turns: Mapping[str, Sequence[Round]]) -> Iterator[Row]:
    """Wall and CPU of "ours" beside the bare HEADs, which are the limit, and memory."""
    near = AtLeast(1 / _NEAR_BARE, f"<= {_NEAR_BARE:g} x the time")
    ours, bare = turns["ours"], turns[BARE]
    for kind, attribute, budget in (
        (", beside bare HEADs", "wall", near),
        (", CPU beside them", "cpu", None),
    ):
        mine, limit = (Sample.of(getattr(each, attribute) for each in side) for side in (ours, bare))
        yield Row(name, f"{what}{kind}", "s", mine, {BARE: limit}, budget=budget)
    memory = Sample.of(each.peak / 1e6 for each in ours)
    yield Row(name, f"{what}, peak memory", "MB", memory, budget=AtMost(300, "MB"))


def measure(place: Place, size: Size) -> Result:
    return Result(tuple(_measured(place, case) for case in size.cases))


def _measured(place: Place, case: Case) -> Found:
    folder, poll = place.fresh("nothing_new"), case.poll
    source = Store.open(folder / "upstream", durability="none")
    poll.fill(source)
    poll.fill(Store.open(folder / "mirror", durability="none"), mirrored=True)
    paths, wanted = write_paths(folder, poll), tagged(source)
    with bundled(source.root) as upstream:
        profile = write_profile(folder, upstream.url, folder / "mirror", referrers={"follow": False})
        contenders = {
            "ours": lambda: turn(upstream, lambda: sync_by_command(profile)),
            BARE: lambda: bare_heads(paths, upstream),
        }
        for name, contender in present(place, *case.peers).items():
            theirs = place.fresh(name.replace(" ", "-"))
            for each in ("layouts", "zot"):
                to_layouts(source, theirs / each)
            poll_it = partial(contender, Wanted(upstream.host, wanted), theirs)
            contenders[name] = partial(turn, upstream, poll_it)
        turns = alternately(case.rounds, contenders, within=case.within, patience=2.5)
        some = [{"prefix": poll.name(number)} for number in range(_FEW)]
        default = write_profile(place.fresh("default"), upstream.url, folder / "mirror", content=some)
        companions = turn(upstream, lambda: sync_by_command(default))
    shutil.rmtree(folder)
    return Found(case, turns, companions)


def turn(upstream: Bundled, work: Callable[[], Usage]) -> Round:
    upstream.asked()
    before = cpu_seconds(upstream.pid)
    usage = work()
    used = cpu_seconds(upstream.pid) - before
    return Round(usage.wall, usage.cpu, usage.peak, used, upstream.asked())


def bare_heads(paths: Path, upstream: Bundled) -> Round:
    """Its seconds are those of the HEADs alone, without the start of Python."""
    program = "benchmarks.harness.programs.bare_heads"
    command = [sys.executable, "-m", program, upstream.host, str(WIDTH), str(paths)]

    def work() -> Usage:
        done = run(command, environment=environment())
        found = json.loads(done.output)
        return Usage(found["wall"], found["cpu"], done.usage.peak)

    return turn(upstream, work)


def write_paths(folder: Path, poll: Poll) -> Path:
    path = folder / "paths"
    path.write_text("\n".join(f"/v2/{poll.name(tag)}/manifests/v{tag}" for tag in range(poll.tags)))
    return path
