"""Two hosts, one bucket, one PostgreSQL: the commands as users run them, each host with its own folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName
from registry_server.store.objects.storage_driver import StorageDriver
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store
from tests.registry_server.store.images import check
from tests.support.object_storage import ENVIRONMENT, running_s3
from tests.support.postgres_server import running_postgres
from tests.support_misbehaving import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.object_storage import S3Server
    from tests.support.postgres_server import PostgresServer
    from tests.support_misbehaving import Misbehaving

REPOSITORIES, TAGS = 3, 12
LOCKS = "MIRRORFLOW_TEST_LOCKS"


@dataclass(frozen=True)
class Host:
    """One of the hosts."""

    folder: Path
    profile: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from flows.cli import main; main()", *arguments, str(self.profile)],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *arguments: str) -> str:
        with self.start(*arguments) as process:
            said = process.communicate(timeout=120)[0]
        assert process.returncode == 0, said
        return said


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("images")
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        for repository in range(REPOSITORIES):
            for tag in range(TAGS):
                layers = (b"shared by all", f"{repository} {tag}".encode() * 1000)
                found.add_image(f"library/r{repository}", f"v{tag}", layers=layers)
        yield found


@pytest.fixture
def hosts(
    bucket: S3Server, postgres: PostgresServer, upstream: Misbehaving, tmp_path: Path
) -> tuple[Host, Host]:
    def host(name: str) -> Host:
        folder = tmp_path / name
        folder.mkdir()
        driver = {
            "name": "s3",
            "bucket": "images",
            "rootdirectory": f"/{tmp_path.name}",
            "regionendpoint": bucket.url,
        }
        document = {
            "storage": {
                "rootDirectory": str(folder / "spool"),
                "storageDriver": driver,
                "locks": {"postgresUrlVariable": LOCKS},
            },
            "sync": {
                "registries": [
                    {"name": "registry1", "urls": [f"http://{upstream.host}"], "content": [{"prefix": "**"}]}
                ]
            },
        }
        profile = folder / "profile.json"
        profile.write_text(json.dumps(document))
        own = {"HOME": str(folder), LOCKS: postgres.url, "COLUMNS": "200", **ENVIRONMENT}
        return Host(folder, profile, {**os.environ, **own})

    return host("a"), host("b")


@pytest.fixture
def store(
    hosts: tuple[Host, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: S3Server
) -> Store:
    """What the test sees of the bucket, once a host has made the store."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    hosts[0].run("sync")
    driver = StorageDriver("s3", "images", tmp_path.name, regionendpoint=bucket.url)
    return Store.open(tmp_path / "reader", remote=RemoteStorage(driver), create=False)


def test_what_one_host_mirrored_the_other_one_has(
    hosts: tuple[Host, Host], store: Store, upstream: Misbehaving
) -> None:
    one, other = hosts
    assert check(store) == REPOSITORIES * TAGS
    assert f"{REPOSITORIES * TAGS} of {REPOSITORIES * TAGS} images, nothing new" in other.run("sync")
    for host in (one, other):
        status = host.run("status")
        assert "everything that the profile wants is in place" in status
        assert "store s3://images/" in status
    assert "0 blobs to the trash" in other.run("store", "gc")


def test_hosts_that_mirror_at_once_and_are_killed_leave_every_tag_whole(
    hosts: tuple[Host, Host], store: Store, upstream: Misbehaving
) -> None:
    for number in range(3):
        for tag in range(TAGS):
            changed = (b"shared by all", f"round {number}, {tag}".encode() * 1000)
            upstream.add_image("library/r0", f"v{tag}", layers=changed)
        running = [host.start("sync") for host in hosts]
        time.sleep(1.5 + number)
        running[number % 2].send_signal(signal.SIGKILL)
        for process in running:
            process.communicate(timeout=120)
        assert running[(number + 1) % 2].returncode == 0
        assert check(store) == REPOSITORIES * TAGS
    assert "nothing new" in hosts[0].run("sync")
    assert len(store.repository(RepositoryName("library/r0")).tags()) == TAGS
