"""What Prefect costs: the same sync through the flow, its server running, and through the plain functions.

The clock runs around the sync alone; what importing Prefect and handing on the last logs costs is a row too.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

from benchmarks.harness.ours import Synced, sync_by_flow, sync_plainly
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, AtMost, Beyond, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Mirror, Poll
from benchmarks.harness.upstreams.proxy import proxied
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.harness.place import Place

    Profiles = Callable[[], AbstractContextManager[Path]]

UPSTREAM = "our own server, for the first mirror behind the proxy (20 ms)"
_LATENCY = 0.02  # seconds a request, for the first mirror


@dataclass(frozen=True, slots=True)
class Size:
    mirror: Mirror
    poll: Poll
    rounds: int
    settle: float  # seconds until Prefect's server has recorded what there is
    within: float = math.inf  # seconds, for all rounds of the mirror, and again for those of the poll


FULL = Size(Mirror(300, 20, 3_000_000, 2, 100_000_000), Poll(10_000, 50), rounds=2, settle=2, within=65)
SMALL = Size(Mirror(4, 2, 20_000), Poll(20, 2), rounds=1, settle=0.1)


@dataclass(frozen=True, slots=True)
class Turn:
    sync: Synced
    task_runs: int


@dataclass(frozen=True, slots=True)
class Result:
    size: Size
    mirror: dict[str, list[Turn]]
    poll: dict[str, list[Turn]]

    def rows(self) -> list[Row]:
        mirror = f"first mirror of {self.size.mirror.images} images"
        poll = f"poll of {self.size.poll.tags:,} tags, nothing new"
        return [
            _compared(mirror, self.mirror, lambda sync: sync.wall, AtLeast(1 / 1.15, "<= 1.15 x the time")),
            _compared(f"{mirror}, CPU of the client", self.mirror, lambda sync: sync.cpu),
            _runs(mirror, self.mirror),
            _compared(poll, self.poll, lambda sync: sync.wall, Beyond(1.5)),
            _compared(f"{poll}, CPU of the client", self.poll, lambda sync: sync.cpu),
            _compared(f"{poll}, with Python's start", self.poll, lambda sync: sync.usage.wall),
            _runs(poll, self.poll),
        ]


def _compared(
    what: str,
    turns: dict[str, list[Turn]],
    value: Callable[[Synced], float],
    budget: AtLeast | Beyond | None = None,
) -> Row:
    flow, plain = (Sample.of(value(each.sync) for each in turns[name]) for name in ("flow", "plain"))
    return Row("orchestration", what, "s", flow, {"without Prefect": plain}, budget=budget)


def _runs(what: str, turns: dict[str, list[Turn]]) -> Row:
    runs = Sample.of(each.task_runs for each in turns["flow"])
    return Row("orchestration", f"{what}: task runs", "", runs, budget=AtMost(500))


def measure(place: Place, size: Size) -> Result:
    folder, url = place.fresh("orchestration"), place.prefect_url
    size.mirror.fill(Store.open(folder / "images", durability="none"))
    size.poll.fill(Store.open(folder / "tags", durability="none"))
    size.poll.fill(Store.open(folder / "polled", durability="none"), mirrored=True)
    with bundled(folder / "images") as upstream, proxied(upstream.host, latency=_LATENCY) as proxy:
        mirror = _turns(size, url, lambda: _empty(place.fresh("mirror"), proxy.url))
    with bundled(folder / "tags") as upstream:
        profile = write_profile(folder, upstream.url, folder / "polled")
        poll = _turns(size, url, lambda: nullcontext(profile))
    shutil.rmtree(folder)
    return Result(size, mirror, poll)


def _turns(size: Size, url: str, profile: Profiles) -> dict[str, list[Turn]]:
    def turn(sync: Callable[[Path], Synced]) -> Turn:
        before = _task_runs(url, size.settle)
        with profile() as path:
            done = sync(path)
        return Turn(done, _task_runs(url, size.settle) - before)

    by_flow = partial(sync_by_flow, prefect_url=url)
    contenders = {"flow": lambda: turn(by_flow), "plain": lambda: turn(sync_plainly)}
    return alternately(size.rounds, contenders, within=size.within)


@contextmanager
def _empty(folder: Path, upstream: str) -> Iterator[Path]:
    try:
        yield write_profile(folder, upstream, folder / "store")
    finally:
        shutil.rmtree(folder)


def _task_runs(url: str, settle: float) -> int:
    """That the Prefect server knows of; it has recorded all when the number no longer grows."""
    known, now = -1, _count(url)
    while now != known:
        time.sleep(settle)
        known, now = now, _count(url)
    return now


def _count(url: str) -> int:
    asked = Request(f"{url}/task_runs/count", b"{}", {"Content-Type": "application/json"})  # noqa: S310 - ours
    with urlopen(asked) as answer:  # noqa: S310 - our own Prefect server
        number: int = json.load(answer)
    return number
