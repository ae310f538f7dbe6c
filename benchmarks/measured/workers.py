"""Two workers with a shard each, beside one for all: separate processes, as those of a work pool are.

The upstream runs on the same cores. On a machine with two, a second worker takes what the upstream needs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness.ours import environment
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, Row, side_by_side
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import ENTRY, Mirror, Poll
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.harness.place import Place

UPSTREAM = "our own server"
_ONE, _TWO = "one worker", "two workers"
_WORKERS: Final = {_TWO: 2, _ONE: 1}
_GOAL: Final = AtLeast(2 * 0.85)
_CONCURRENT: Final = 8  # requests of each
_PROGRAM: Final = f"""
import sys
from pathlib import Path
from flows.direct_run import run_direct
from profiles.values.shard import Shard
shard = Shard.parse(sys.argv[2]) if sys.argv[2:] else None
state, message = run_direct(Path(sys.argv[1]), {ENTRY!r}, shard=shard)
assert state == "COMPLETED", message
"""


@dataclass(frozen=True, slots=True)
class Size:
    mirror: Mirror
    poll: Poll
    rounds: int


FULL = Size(Mirror(300, 20, 20_000), Poll(2_000, 20), rounds=3)
SMALL = Size(Mirror(4, 2, 20_000), Poll(20, 2), rounds=1)


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds of all workers, from the start of the first to the end of the last."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Result:
    turns: Mapping[str, Mapping[str, list[Turn]]]

    def rows(self) -> list[Row]:
        found = []
        for what, turns in self.turns.items():
            wall = side_by_side(turns, lambda each: each.wall, _TWO, (_ONE,))
            cpu = side_by_side(turns, lambda each: each.cpu, _TWO, (_ONE,))
            found.append(Row("workers", f"{what}, two workers", "s", *wall, budget=_GOAL))
            found.append(Row("workers", f"{what}, two workers, CPU", "s", *cpu))
        return found


def measure(place: Place, size: Size) -> Result:
    contents: dict[str, Mirror | Poll] = {
        f"first mirror of {size.mirror.images} small images": size.mirror,
        f"poll of {size.poll.tags:,} tags": size.poll,
    }
    return Result({what: _compared(place, content, size.rounds) for what, content in contents.items()})


def _compared(place: Place, content: Mirror | Poll, rounds: int) -> dict[str, list[Turn]]:
    folder = place.fresh("workers")
    content.fill(Store.open(folder, durability="none"))
    with bundled(folder) as upstream:
        polls = isinstance(content, Poll)
        turns = {
            name: partial(_turn, place, upstream.url, number, polls=polls)
            for name, number in _WORKERS.items()
        }
        found = alternately(rounds, turns)
    shutil.rmtree(folder)
    return found


def _turn(place: Place, upstream: str, number: int, *, polls: bool) -> Turn:
    """`polls`: once more, when everything is there."""
    folder = place.fresh("worker")
    profile = write_profile(
        folder, upstream, folder / "mirror", shards=number, reqConcurrent=_CONCURRENT * number
    )
    shards = [f"{each}/{number}" for each in range(1, number + 1)] if number > 1 else [""]
    if polls:
        _work(profile, shards)
    began, used = time.perf_counter(), _cpu_of_children()
    _work(profile, shards)
    found = Turn(time.perf_counter() - began, _cpu_of_children() - used)
    shutil.rmtree(folder)
    return found


def _work(profile: Path, shards: list[str]) -> None:
    """A process for each shard, at the same time."""
    commands = [[sys.executable, "-c", _PROGRAM, str(profile), *filter(None, [each])] for each in shards]
    running = [subprocess.Popen(each, env=environment(), stdout=subprocess.DEVNULL) for each in commands]
    assert [each.wait() for each in running] == [0] * len(shards)


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system
