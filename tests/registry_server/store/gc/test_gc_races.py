"""Garbage collection beside writers, readers and kills: nothing that a tag shows is ever lost.

`MIRRORFLOW_SOAK=120` (seconds) makes the race as long as one likes.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.gc.collector import collect
from registry_server.store.gc.retention import GcOptions
from registry_server.store.store import Store
from tests.registry_server.store.filesystem.disks import fill_up, mounted
from tests.registry_server.store.images import check, check_closure, layer, tag_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_server.store.repository import Repository

HERE = Path(__file__).resolve().parents[4]
PROGRAM = [sys.executable, "-m", "tests.registry_server.store.gc.gc_programs"]
SECONDS = float(os.environ.get("MIRRORFLOW_SOAK", "20"))
WRITERS = 4


class Program:
    """One of the programs, at work on a store until `seconds` are over; what it says goes to a file."""

    def __init__(self, folder: Path, what: str, root: Path, seed: int, seconds: float) -> None:
        self._out = folder / f"{what}-{seed}.out"
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(
                [*PROGRAM, what, str(root), str(seed), str(seconds)], cwd=HERE, stdout=out, stderr=out
            )

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self, *, kill: bool = False) -> str:
        """What it said, once it has ended, or is made to."""
        if kill:
            self._process.kill()
        status = self._process.wait(timeout=60)
        said = self._out.read_text()
        assert kill or status == 0, said[-3000:]
        return said


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start programs; none of them outlives the test."""
    with ExitStack() as running:

        def start(what: str, root: Path, seed: int, seconds: float) -> Program:
            program = Program(tmp_path, what, root, seed, seconds)
            running.callback(program.stop)
            return program

        yield start


def told(lines: str) -> dict[tuple[str, str], str | None]:
    """What a writer knows to be visible (a digest) or gone (""); None: killed or stopped in between."""
    known: dict[tuple[str, str], str | None] = {}
    for line in lines.splitlines():
        match line.split():
            case ["try", name, tag]:
                known[name, tag] = None
            case ["drop", name, tag]:
                known[name, tag] = ""
            case ["tag", name, tag, digest]:
                known[name, tag] = digest
    return known


def look(store: Store, chance: random.Random) -> int:
    """Pull a tag: what is visible is whole, unless somebody moved or deleted it meanwhile."""
    names = store.repositories()
    repository = store.repository(chance.choice(names)) if names else None
    tags = repository.tags() if repository and repository.exists else []
    if repository is None or not tags:
        return 0
    tag = chance.choice(tags)
    before = repository.tag(tag)
    try:
        check_closure(repository, tag)
    except (MirrorflowError, AssertionError):
        if before is not None and repository.tag(tag) == before and not _moved(repository, tag):
            raise
    return 1


def _moved(repository: Repository, tag: Tag) -> bool:
    """Whether a second look finds the tag whole: it went to another image and came back between two reads."""
    check_closure(repository, tag)
    return True


def test_writers_beside_a_collector_lose_nothing_that_they_were_told_is_visible(
    tmp_path: Path, start: Callable[..., Program]
) -> None:
    root = tmp_path / "store"
    store, chance = Store.open(root), random.Random(1)  # noqa: S311 - the same test each time, not a secret
    writers = [start("write", root, seed, SECONDS) for seed in range(WRITERS)]
    collector = start("collect", root, 0, SECONDS + 1)
    looked, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        looked += look(store, chance)
        time.sleep(0.005)
    known: dict[tuple[str, str], str | None] = {}
    for program in writers:
        known |= told(program.end())
    print(collector.end(), f"{looked} looks, {len(known)} tags")
    check(store)
    for (name, tag), digest in known.items():
        repository = store.repository(RepositoryName(name))
        found = repository.tag(Tag(tag))
        assert (found.digest if found else "") == digest, (name, tag)
    assert looked > 10
    assert known


def test_killed_before_any_of_its_steps_a_collector_leaves_every_tag_whole(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "sweep", str(tmp_path)], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40  # steps that one collection has: the sweep met the real ones


def test_collectors_and_writers_killed_at_random_moments_lose_nothing(
    tmp_path: Path, start: Callable[..., Program]
) -> None:
    root = tmp_path / "store"
    store, chance = Store.open(root), random.Random(2)  # noqa: S311 - the same test each time, not a secret
    for number in range(8):
        writers = [start("write", root, 10 * number + seed, 60) for seed in range(2)]
        collector = start("collect", root, 0, 60)
        time.sleep(0.5 + chance.random())
        known: dict[tuple[str, str], str | None] = {}
        for program in (collector, *writers):
            known |= told(program.end(kill=True))
        check(store)
        for (name, tag), digest in known.items():
            found = store.repository(RepositoryName(name)).tag(Tag(tag))
            if digest:
                assert found is not None
                assert found.digest == Digest(digest)
    report = collect(store, {root: GcOptions(delay=0.0, settle=0.0)})
    assert report.well
    check(store)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Store]:
    root = tmp_path / "small"
    root.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(root)):
        yield Store.open(root)


def test_on_a_full_disk_a_collection_makes_room(small: Store) -> None:
    nginx = small.repository(RepositoryName("library/nginx"))
    tag_image(nginx, "1", b"layer")
    nginx.put_blob(layer(bytes(500_000)), bytes(500_000))
    for path in (small.root / "repos").rglob("*"):
        os.utime(path, (1.0, 1.0))
    for path in (small.root / "blobs").rglob("*"):
        os.utime(path, (1.0, 1.0))
    fill_up(small.root / "filler")
    options = {small.root: GcOptions(settle=0.0)}
    assert collect(small, options).trashed == 1
    assert collect(small, options).purged_bytes == 500_000
    nginx.put_blob(layer(bytes(400_000)), bytes(400_000))
    assert check(small) == 1


def test_writers_that_meet_a_full_disk_beside_a_collector_lose_nothing(
    small: Store, start: Callable[..., Program]
) -> None:
    (small.root / "filler").write_bytes(bytes(1_600_000))
    writers = [start("write", small.root, seed, 4) for seed in range(2)]
    collector = start("collect", small.root, 0, 4)
    known: dict[tuple[str, str], str | None] = {}
    for program in writers:
        known |= told(program.end())
    assert "'collections': " in collector.end()
    check(small)
    for (name, tag), digest in known.items():
        found = small.repository(RepositoryName(name)).tag(Tag(tag))
        if digest:
            assert found is not None
            assert found.digest == Digest(digest)
