"""How long a command takes before it does anything: imports are lazy, or `--help` would wait for Prefect."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.harness.ours import MIRRORFLOW, environment
from benchmarks.harness.processes import run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtMost, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Poll
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.harness.place import Place
    from benchmarks.harness.processes import Finished, Usage

UPSTREAM = "our own server"
_BUDGETS = {"mirrorflow --help": 0.15, "mirrorflow check": 0.4, "mirrorflow plan, 6 tags": 0.7}  # seconds
_BARE = "python -c pass"


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int


FULL = Size(rounds=5)
SMALL = Size(rounds=1)


@dataclass(frozen=True, slots=True)
class Result:
    """What each command took, round by round."""

    taken: Mapping[str, tuple[Usage, ...]]

    def rows(self) -> list[Row]:
        return [row for what in _BUDGETS for row in self._of(what)]

    def _of(self, what: str) -> Iterator[Row]:
        """The goal is one of CPU: on a machine that does nothing else both are the same."""
        for kind, value, budget in ((", CPU", _cpu, AtMost(_BUDGETS[what], "s")), ("", _wall, None)):
            ours, bare = (Sample.of(map(value, self.taken[name])) for name in (what, _BARE))
            yield Row("start", f"{what}{kind}", "s", ours, {_BARE: bare}, budget=budget)


def _cpu(usage: Usage) -> float:
    return usage.cpu


def _wall(usage: Usage) -> float:
    return usage.wall


def measure(place: Place, size: Size) -> Result:
    folder = place.fresh("start")
    Poll(tags=6, repositories=2).fill(Store.open(folder / "upstream", durability="none"))
    with bundled(folder / "upstream") as upstream:
        profile = str(write_profile(folder, upstream.url, folder / "mirror"))
        commands = {
            _BARE: [sys.executable, "-c", "pass"],
            "mirrorflow --help": [*MIRRORFLOW, "--help"],
            "mirrorflow check": [*MIRRORFLOW, "check", profile],
            "mirrorflow plan, 6 tags": [*MIRRORFLOW, "plan", profile],
        }
        for command in commands.values():
            _run(command)  # byte code is written, files are in memory
        turns = alternately(size.rounds, {what: partial(_run, each) for what, each in commands.items()})
    return Result({what: tuple(done.usage for done in each) for what, each in turns.items()})


def _run(command: list[str]) -> Finished:
    return run(command, environment=environment(), statuses=(0, 2))
