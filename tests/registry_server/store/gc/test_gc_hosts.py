"""Writers and a collector that share a bucket and PostgreSQL, each as on a host of its own.

`MIRRORFLOW_SOAK=120` (seconds) makes the race as long as one likes.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.objects.storage_driver import StorageDriver
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store
from tests.registry_server.store.gc.gc_programs import REMOTE
from tests.registry_server.store.gc.test_gc_races import SECONDS, look, start, told
from tests.registry_server.store.images import check
from tests.support.object_storage import ENVIRONMENT
from tests.support.postgres_server import running_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.registry_server.store.gc.test_gc_races import Program
    from tests.support.object_storage import S3Server
    from tests.support.postgres_server import PostgresServer

__all__ = ["start"]  # a fixture
WRITERS = 3
ROUNDS = 5


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def store(
    bucket: S3Server, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Store:
    """The shared store, as the host of the test sees it."""
    driver = StorageDriver("s3", "images", f"tests/{tmp_path.name}", regionendpoint=bucket.url)
    remote = RemoteStorage(driver, locks_variable="MIRRORFLOW_TEST_LOCKS")
    variables = {REMOTE: remote.to_json(), "MIRRORFLOW_TEST_LOCKS": postgres.url, **ENVIRONMENT}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Store.open(tmp_path / "reader", remote=remote)


def assert_visible(store: Store, known: dict[tuple[str, str], str | None]) -> None:
    """What writers know to be visible is."""
    for (name, tag), digest in known.items():
        found = store.repository(RepositoryName(name)).tag(Tag(tag))
        if digest:
            assert found is not None, (name, tag)
            assert found.digest == Digest(digest), (name, tag)


def test_writers_of_several_hosts_lose_nothing_to_a_collector(
    store: Store, tmp_path: Path, start: Callable[..., Program]
) -> None:
    writers = [start("write", tmp_path, seed, SECONDS) for seed in range(WRITERS)]
    collector = start("collect", tmp_path, 0, SECONDS + 1)
    chance, looked, end = random.Random(1), 0, time.monotonic() + SECONDS  # noqa: S311 - not a secret
    while time.monotonic() < end:
        looked += look(store, chance)
        time.sleep(0.05)
    known: dict[tuple[str, str], str | None] = {}
    for program in writers:
        known |= told(program.end())
    totals = collector.end()
    print(totals, f"{looked} looks, {len(known)} tags")
    check(store)
    assert_visible(store, known)
    assert looked > 5
    assert "'purged': 0" not in totals  # or the race was none


def test_writers_and_collectors_of_several_hosts_killed_at_random_moments_lose_nothing(
    store: Store, tmp_path: Path, start: Callable[..., Program]
) -> None:
    chance = random.Random(2)  # noqa: S311 - the same test each time, not a secret
    for number in range(ROUNDS):
        programs = [start("write", tmp_path, 10 * number + seed, 60) for seed in range(2)]
        programs.append(start("collect", tmp_path, number, 60))
        time.sleep(2 + 2 * chance.random())
        known: dict[tuple[str, str], str | None] = {}
        for program in programs:
            known |= told(program.end(kill=True))
        check(store)
        assert_visible(store, known)


def test_writers_lose_nothing_while_their_locks_are_cut(
    store: Store, tmp_path: Path, start: Callable[..., Program], postgres: PostgresServer
) -> None:
    """A writer may fail then, and says so; what it said before is there, and what is visible is whole."""
    writers = [start("write", tmp_path, seed, 60) for seed in range(WRITERS)]
    collector = start("collect", tmp_path, 0, 60)
    for _ in range(10):
        time.sleep(0.7)
        postgres.cut_connections()
    known: dict[tuple[str, str], str | None] = {}
    for program in (collector, *writers):
        known |= told(program.end(kill=True))
    check(store)
    assert_visible(store, known)
