"""The same poll with a few tags that have moved: it costs the HEADs and those few images."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness.ours import sync_by_command
from benchmarks.harness.profile import write_profile
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Poll
from benchmarks.measured.nothing_new import BARE, Round, asked, bare_heads, costs, turn, write_paths
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.harness.place import Place
    from benchmarks.harness.report.rows import Row

UPSTREAM = "our own server"


@dataclass(frozen=True, slots=True)
class Size:
    tags: int
    repositories: int
    changed: int
    rounds: int
    within: float = math.inf  # seconds, for all rounds


FULL = Size(tags=10_000, repositories=50, changed=20, rounds=3, within=30)
SMALL = Size(tags=60, repositories=3, changed=4, rounds=1)


@dataclass(frozen=True, slots=True)
class Result:
    size: Size
    turns: Mapping[str, list[Round]]

    def rows(self) -> list[Row]:
        size, ours = self.size, self.turns["ours"]
        return [
            asked("few_new", "HEADs of manifests", ours, "HEAD manifest", size.tags),
            asked("few_new", "GETs of manifests", ours, "GET manifest", size.changed),
            asked("few_new", "GETs of blobs: layer and config", ours, "GET blob", 2 * size.changed),
            *costs("few_new", f"poll of {size.tags:,} tags, {size.changed} new", self.turns),
        ]


def measure(place: Place, size: Size) -> Result:
    folder = place.fresh("few_new")
    poll = Poll(size.tags, size.repositories)
    source = Store.open(folder / "upstream", durability="none")
    poll.fill(source)
    poll.fill(Store.open(folder / "mirror", durability="none"), mirrored=True)
    with bundled(folder / "upstream") as upstream:
        profile = write_profile(folder, upstream.url, folder / "mirror", referrers={"follow": False})
        paths = write_paths(folder, poll)
        rounds = iter(range(size.rounds))

        def ours() -> Round:
            poll.change(source, size.changed, next(rounds))
            return turn(upstream, lambda: sync_by_command(profile))

        contenders = {"ours": ours, BARE: lambda: bare_heads(paths, upstream)}
        turns = alternately(size.rounds, contenders, within=size.within)
    shutil.rmtree(folder)
    return Result(size, turns)
