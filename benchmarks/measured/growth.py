"""What costs more when there is more: polls by tags, mirrors by images, pages by a list, starts by a store.

The exponent of cost ~ number ** exponent: 1 is "each costs the same, however many there are".
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

from benchmarks.harness.load import wrk
from benchmarks.harness.ours import MIRRORFLOW, environment, sync_plainly
from benchmarks.harness.processes import cpu_seconds, run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtMost, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Mirror, Poll, image, put
from registry_server.http.server_options import ServerOptions
from registry_server.http.server_process import ServerProcess
from registry_server.oci.digest import Digest
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.harness.ours import Synced
    from benchmarks.harness.place import Place

UPSTREAM = "our own server"
_LINEAR: Final = 1.05  # of an exponent: over a range of 100 it is 1.26 x the cost a piece
_FLAT: Final = 0.05  # over a range of 400 it is 1.35 x the cost
_PAGE: Final = 100  # tags
_SECONDS: Final = 2


@dataclass(frozen=True, slots=True)
class Size:
    """`lists`: tags of a repository whose list is asked for in pages of 100."""

    tags: tuple[int, ...]
    images: tuple[int, ...]
    lists: tuple[int, ...]
    blobs: int
    rounds: int


_LISTS: Final = (100, 1_000, 10_000, 40_000)
FULL = Size((1_000, 3_000, 10_000, 30_000), (30, 100, 300), _LISTS, blobs=200_000, rounds=2)
LONG = Size((1_000, 10_000, 100_000), (30, 300, 3_000), _LISTS, blobs=200_000, rounds=5)
SMALL = Size(tags=(20, 40), images=(2, 4), lists=(100, 200), blobs=200, rounds=1)


@dataclass(frozen=True, slots=True)
class Result:
    """CPU seconds (waiting for other programs does not grow) and bytes of memory, by number; and seconds."""

    polls: Mapping[int, Synced]
    mirrors: Mapping[int, Synced]
    pages: Mapping[int, float]
    starts: Mapping[str, Mapping[str, tuple[float, ...]]]

    def rows(self) -> list[Row]:
        polls = {number: sync.cpu for number, sync in self.polls.items()}
        mirrors = {number: sync.cpu for number, sync in self.mirrors.items()}
        memory = {number: float(sync.usage.peak) for number, sync in self.polls.items()}
        return [
            *_costs("poll", "tag", polls),
            *_costs("first mirror", "image", mirrors),
            _exponent("memory of a poll", memory, 0.25),
            *(_each(f"list of {tags:,} tags: CPU a page", cost) for tags, cost in self.pages.items()),
            _exponent("CPU of a page by the length of its list", self.pages, _FLAT),
            *(self._start(command) for command in self.starts),
        ]

    def _start(self, command: str) -> Row:
        full, empty = (Sample(self.starts[command][name]) for name in ("full", "empty"))
        return Row("growth", f"start of {command}, blobs in the pool", "s", full, {"an empty store": empty})


def _costs(what: str, piece: str, costs: Mapping[int, float]) -> list[Row]:
    each = [_each(f"{what} of {number:,}: CPU a {piece}", cost / number) for number, cost in costs.items()]
    return [*each, _exponent(f"CPU of a {what}", costs, _LINEAR)]


def _each(what: str, seconds: float) -> Row:
    return Row("growth", what, "ms", Sample.of([1000 * seconds]))


def _exponent(what: str, costs: Mapping[int, float], limit: float) -> Row:
    value = exponent(list(costs), list(costs.values()))
    return Row("growth", f"exponent: {what}", "", Sample.of([value]), budget=AtMost(limit))


def exponent(numbers: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of the straight line through the logarithms (least squares)."""
    x, y = [math.log(each) for each in numbers], [math.log(max(each, 1e-9)) for each in costs]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - middle_x) ** 2 for a in x)


def measure(place: Place, size: Size) -> Result:
    polls = {number: _poll(place.fresh("poll"), number) for number in size.tags}
    mirrors = {number: _mirror(place.fresh("mirror"), number) for number in size.images}
    pages = {number: _page(place, place.fresh("pages"), number) for number in size.lists}
    return Result(polls, mirrors, pages, _starts(place.fresh("starts"), size))


def _page(place: Place, folder: Path, tags: int) -> float:
    """CPU seconds of the server for one page from the middle of the list."""
    store = Store.open(folder / "store", durability="none")
    image(store, "list", "tags", [put(store, "list", "t", 500)], *(f"v{each:06}" for each in range(tags)))
    path = f"/v2/list/tags/list?n={_PAGE}&last=v{tags // 2 - 1:06}"
    with bundled(store.root) as server:
        with urlopen(server.url + path) as answer:  # noqa: S310 - our own server; the first page reads the folder
            answer.read()
        before = cpu_seconds(server.pid)
        load = wrk(place.program("wrk"), folder, server.url, [path], clients=4, seconds=_SECONDS)
        used = cpu_seconds(server.pid) - before
    shutil.rmtree(folder)
    return used / (load.requests * _SECONDS)


def _poll(folder: Path, tags: int) -> Synced:
    poll = Poll(tags, 10)
    poll.fill(Store.open(folder / "upstream", durability="none"))
    poll.fill(Store.open(folder / "mirror", durability="none"), mirrored=True)
    return _sync(folder)


def _mirror(folder: Path, images: int) -> Synced:
    """Small ones: this is about images, not about bytes."""
    Mirror(images, 10, 20_000).fill(Store.open(folder / "upstream", durability="none"))
    return _sync(folder)


def _sync(folder: Path) -> Synced:
    with bundled(folder / "upstream") as upstream:
        done = sync_plainly(write_profile(folder, upstream.url, folder / "mirror"))
    shutil.rmtree(folder)
    return done


def _starts(folder: Path, size: Size) -> dict[str, dict[str, tuple[float, ...]]]:
    Poll(6, 2).fill(Store.open(folder / "upstream", durability="none"))
    for name in ("empty", "full"):
        Store.open(folder / name, durability="none")
    _fill_pool(folder / "full", size.blobs)
    serve = {name: partial(_serve, folder / name) for name in ("empty", "full")}
    found = {"serve": alternately(size.rounds, serve)}
    with bundled(folder / "upstream") as upstream:
        profiles = {name: _profile(folder, upstream.url, name) for name in ("empty", "full")}
        plan = {name: partial(_plan, profile) for name, profile in profiles.items()}
        found["plan"] = alternately(size.rounds, plan)
    shutil.rmtree(folder)
    return {command: {name: tuple(each) for name, each in by.items()} for command, by in found.items()}


def _fill_pool(root: Path, blobs: int) -> None:
    """As files: putting each would sync and mark, and the pool is all that counts here."""
    for number in range(blobs):
        digest = Digest.of(str(number).encode())
        path = root / "blobs/sha256" / digest.hex[:2] / digest.hex
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(number).encode())


def _serve(root: Path) -> float:
    """Until it has answered; `/metrics` weighs the pool when it is first asked, which nobody waits for."""
    began = time.perf_counter()
    server = ServerProcess(ServerOptions(root, port=0))
    try:
        with urlopen(f"{server.url}/v2/") as answer:  # noqa: S310 - our own server
            answer.read()
        return time.perf_counter() - began
    finally:
        server.stop()


def _profile(folder: Path, url: str, name: str) -> Path:
    place = folder / f"{name}-profile"
    place.mkdir()
    return write_profile(place, url, folder / name)


def _plan(profile: Path) -> float:
    command = [*MIRRORFLOW, "plan", str(profile)]
    return run(command, environment=environment(), statuses=(0, 2)).usage.wall
