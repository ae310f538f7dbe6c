"""What clients push: one large blob in one piece, and many small images; against docker-registry."""

from __future__ import annotations

import json
import math
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness.ours import environment
from benchmarks.harness.peers.servers import docker_registry
from benchmarks.harness.processes import cpu_seconds, most_resident, run
from benchmarks.harness.report.rows import AtMost, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import image, put
from registry_server.store.pool.blob_pool import blob_key
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from benchmarks.harness.place import Place

UPSTREAM = "our own server"
_NAME: Final = "push/images"


@dataclass(frozen=True, slots=True)
class Size:
    big: int
    images: int
    rounds: int
    within: float = math.inf  # seconds, for all rounds


FULL = Size(big=2**30, images=100, rounds=3, within=35)
SMALL = Size(big=3_000_000, images=3, rounds=1)


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds for the blob and for the images, CPU seconds of the server for each, bytes of its memory."""

    blob: float
    images: float
    blob_cpu: float
    images_cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Result:
    size: Size
    rounds: Mapping[str, tuple[Round, ...]]

    def rows(self) -> list[Row]:
        ours, theirs = self.rounds["ours"], self.rounds["docker-registry"]
        blob, images = (
            f"{self.size.big / 2**20:.0f} MiB in one piece",
            f"{self.size.images} small images, skopeo",
        )

        def seconds(what: str, field: str) -> Row:
            mine, peer = (Sample.of(getattr(each, field) for each in side) for side in (ours, theirs))
            return Row("push", what, "s", mine, {"docker-registry": peer})

        peak = Sample.of(each.peak / 1e6 for each in ours)
        return [
            seconds(blob, "blob"),
            seconds(f"{blob}, CPU of the server", "blob_cpu"),
            seconds(images, "images"),
            seconds(f"{images}, CPU of the server", "images_cpu"),
            Row("push", "peak memory of the server", "MB", peak, budget=AtMost(300, "MB")),
        ]


def measure(place: Place, size: Size) -> Result:
    skopeo, program = place.program("skopeo"), place.program("docker-registry")
    folder = place.fresh("push")
    store = Store.open(folder / "source", durability="none")
    for number in range(size.images):
        image(store, _NAME, str(number), [put(store, _NAME, f"layer-{number}", 20_000)], f"v{number}")
    digest = put(store, _NAME, "big", size.big).digest
    with bundled(store.root) as source:
        push = partial(_push, skopeo, source.host, store.root / blob_key(digest))
        turns = alternately(
            size.rounds,
            {
                "ours": lambda: _ours(place.fresh("push-ours"), push),
                "docker-registry": lambda: _theirs(place.fresh("push-theirs"), program, push),
            },
            within=size.within,
        )
    shutil.rmtree(folder)
    return Result(size, {name: tuple(each) for name, each in turns.items()})


def _ours(folder: Path, push: partial[Round]) -> Round:
    Store.open(folder / "store")
    with _for_a_while(folder), bundled(folder / "store", writable=True) as server:
        return push(server.host, server.pid)


def _theirs(folder: Path, program: str, push: partial[Round]) -> Round:
    with _for_a_while(folder), docker_registry(program, folder, folder / "store") as server:
        return push(server.host, server.pid)


def _push(skopeo: str, source: str, blob: Path, host: str, pid: int) -> Round:
    began = cpu_seconds(pid)
    command = [
        sys.executable,
        "-m",
        "benchmarks.harness.programs.pushing",
        host,
        "push/big",
        str(blob),
        f"sha256:{blob.name}",
    ]
    wall = json.loads(run(command, environment=environment()).output)["wall"]
    between = cpu_seconds(pid)
    secure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    done = run([skopeo, "sync", "--src", "docker", "--dest", "docker", *secure, f"{source}/{_NAME}", host])
    used = cpu_seconds(pid) - between
    return Round(wall, done.usage.wall, between - began, used, most_resident(pid))


@contextmanager
def _for_a_while(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder)
