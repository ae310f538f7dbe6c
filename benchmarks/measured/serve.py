"""Handing out what is here: to one client, to sixteen, by one process and by as many as there are cores.

The files are on the disk and in its cache.

Beside nginx over the same files, and registries over the same content. nginx has one worker, which takes one
core at most, as one process of ours; the registries take all cores.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness.load import Load, heads, wrk
from benchmarks.harness.peers.nginx import nginx
from benchmarks.harness.peers.servers import docker_registry, zot
from benchmarks.harness.processes import most_resident
from benchmarks.harness.report.rows import AtLeast, AtMost, Better, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import image, put
from benchmarks.harness.upstreams.layouts import to_distribution, to_layouts
from registry_server.oci.media_types import ACCEPT
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from benchmarks.harness.place import Place

UPSTREAM = "none"
_NAME: Final = "serve/images"
_CORES: Final = os.cpu_count() or 1
_NGINX: Final = "nginx"
_REGISTRIES: Final = ("docker-registry", "distribution 3", "zot")
_OURS: Final = ("ours", f"ours x {_CORES}")


@dataclass(frozen=True, slots=True)
class Size:
    big: int
    small: int
    tags: int
    seconds: int
    rounds: int
    at_once: int = 1  # questions; more than one only where nothing is measured


FULL = Size(big=2**30, small=64, tags=20_000, seconds=1, rounds=2)
SMALL = Size(big=3_000_000, small=4, tags=30, seconds=1, rounds=1, at_once=4)


@dataclass(frozen=True, slots=True)
class Question:
    """What clients ask for. `by_bytes`: it is the bytes that count. `near`: what is promised beside nginx;
    None: it cannot answer this."""

    what: str
    paths: tuple[str, ...]
    clients: int = 16
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = (("Accept", ACCEPT),)
    by_bytes: bool = False
    near: float | None = 0.5


@dataclass(frozen=True, slots=True)
class Result:
    """By question, by contender, round by round; the most memory of one of our server's processes, bytes."""

    loads: Mapping[Question, Mapping[str, tuple[Load, ...]]]
    peaks: tuple[int, ...]

    def rows(self) -> list[Row]:
        rows = [row for question in self.loads for row in self._of(question)]
        peak = Sample.of(each / 1e6 for each in self.peaks)
        return [*rows, Row("serve", "peak memory of a process", "MB", peak, budget=AtMost(300, "MB"))]

    def _of(self, question: Question) -> Iterator[Row]:
        found = self.loads[question]
        unit = "MB/s" if question.by_bytes else "requests/s"
        samples = {name: _sample(question, loads) for name, loads in found.items()}
        ours, more = samples[_OURS[0]], Better.MORE
        registries = {name: samples.get(name) for name in _REGISTRIES}
        yield Row("serve", question.what, unit, ours, registries, more, AtLeast(1.25))
        if question.near:
            what, web = f"{question.what}, beside nginx", {_NGINX: samples[_NGINX]}
            yield Row("serve", what, unit, ours, web, more, AtLeast(question.near))
        if _CORES > 1:
            what, one = f"{question.what}, {_CORES} processes", {"one process of ours": ours}
            yield Row("serve", what, unit, samples[_OURS[1]], one, more)


def _sample(question: Question, loads: tuple[Load, ...]) -> Sample:
    return Sample.of(each.bytes / 1e6 if question.by_bytes else each.requests for each in loads)


def measure(place: Place, size: Size) -> Result:
    folder = place.fresh_on_disk("serve")
    store = Store.open(folder / "store", durability="none")
    questions = _questions(store, size)
    with _servers(place, folder, store) as urls:
        program = place.program("wrk")
        with ThreadPoolExecutor(size.at_once) as threads:
            asked = threads.map(lambda each: _ask(program, place.fresh("wrk"), urls, each, size), questions)
            found = dict(zip(questions, asked, strict=True))
        peaks = tuple(most_resident(pid) for _, pid in urls.values() if pid)
    shutil.rmtree(folder)  # gigabytes
    return Result(found, peaks)


def _questions(store: Store, size: Size) -> list[Question]:
    big = put(store, _NAME, "big", size.big)
    small = [put(store, _NAME, f"small-{number}", 65_536) for number in range(size.small)]
    made = image(store, _NAME, "image", [big, *small], "latest")
    image(store, "serve/tags", "tags", [put(store, "serve/tags", "t", 500)], *_tags(size.tags))
    at, blobs = f"/v2/{_NAME}", f"/v2/{_NAME}/blobs"
    whole = (f"{blobs}/{big.digest}",)
    half = f"bytes={size.big // 2}-"
    return [
        Question("1 blob of 1 GiB, 1 client", whole, 1, by_bytes=True, near=1),
        Question(
            "half of it by Range, 1 client", whole, 1,
            headers=(("Range", half),), by_bytes=True, near=1,
        ),
        Question("blobs of 64 KiB, 16 clients", tuple(f"{blobs}/{each.digest}" for each in small)),
        Question("manifest by tag, 16 clients", (f"{at}/manifests/latest",)),
        Question("manifest by digest, 16 clients", (f"{at}/manifests/{made.digest}",)),
        Question("HEAD by tag, 16 clients", (f"{at}/manifests/latest",), method="HEAD"),
        Question(f"list of {size.tags:,} tags", ("/v2/serve/tags/tags/list",), 1, near=None),
    ]  # fmt: skip


def _tags(number: int) -> list[str]:
    return [f"v{each:06}" for each in range(number)]


@contextmanager
def _servers(place: Place, folder: Path, store: Store) -> Iterator[dict[str, tuple[str, int]]]:
    """By contender: the URL, and of ours the process id."""
    web_server = place.program("nginx")
    latest = store.repository(RepositoryName(_NAME)).find_manifest(Tag("latest")).descriptor.digest
    with ExitStack() as held:
        one = held.enter_context(bundled(store.root))
        many = held.enter_context(bundled(store.root, workers=_CORES))
        tags = [(_NAME, "latest", latest)]
        web = held.enter_context(nginx(web_server, folder, store.root, tags=tags))
        tree = to_distribution(store, folder / "distribution")
        found = {_OURS[0]: (one.url, one.pid), _OURS[1]: (many.url, many.pid), _NGINX: (web.url, 0)}
        programs = zip(_REGISTRIES, ("docker-registry", "registry", "zot"), strict=True)
        for name, path in ((name, place.optional(program).get(program)) for name, program in programs):
            if path is None:
                continue
            server = docker_registry(path, folder, tree)
            if name == "zot":
                server = zot(path, folder, to_layouts(store, folder / "layouts"))
            found[name] = (held.enter_context(server).url, 0)
        yield found


def _ask(
    program: str, folder: Path, urls: Mapping[str, tuple[str, int]], question: Question, size: Size
) -> dict[str, tuple[Load, ...]]:
    def load(url: str) -> Load:
        if question.method == "HEAD":
            return heads(url, question.paths[0], clients=question.clients, seconds=size.seconds)
        return wrk(
            program, folder, url, question.paths,
            clients=question.clients, seconds=size.seconds, headers=dict(question.headers),
        )  # fmt: skip

    asked = {name: url for name, (url, _) in urls.items() if question.near or name != _NGINX}
    turns = alternately(size.rounds, {name: partial(load, url) for name, url in asked.items()})
    return {name: tuple(loads) for name, loads in turns.items()}
