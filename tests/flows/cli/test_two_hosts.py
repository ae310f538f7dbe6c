"""Commands of two hosts over one store. The other host is a name and a boot id beside a lock that is held."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from flows.orchestration.prefect_server import PrefectServerElsewhere, prefect_api
from flows.orchestration.runner_events import DeploymentsApplied
from flows.orchestration.server_record import (
    ServerRecord,
    claim_database,
    forget_record,
    read_record,
    running_server,
    write_record,
)
from flows.settings import prefect_home
from profiles.loader import load_profile
from profiles.server_options import server_options
from registry_server.store.filesystem.process_identity import ProcessIdentity
from registry_server.store.store import Store
from tests.flows.mirrors import Mirror
from tests.support.command_line import COMMAND, mirrorflow, write_profile
from tests.support.mounts import run_as_if_mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry

HERE = ProcessIdentity.current()
ELSEWHERE = ProcessIdentity(os.getpid(), "other.example", "another-boot")
"""With the pid of a process that runs here: a pid says nothing of another host."""
LOOPBACK_OF_BOTH = "http://127.0.0.1:4200/api"
HOLD = """
import pathlib, sys
from flows.orchestration.server_record import claim_database
from registry_server.store.store import Store
root = pathlib.Path(sys.argv[1])
with Store.open(root).claim("up"):
    (root / "prefect").mkdir()
    assert claim_database(root / "prefect") is not None
    (root / "prefect/server.lock").write_text(sys.argv[2])
    (root / "locks/up").write_text(sys.argv[2])
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def profile(sample_upstream: Registry, tmp_path: Path) -> Path:
    return write_profile(tmp_path, sample_upstream.url, "{images: ['library/nginx:1.26.0']}")


@pytest.fixture
def up_elsewhere(tmp_path: Path) -> Iterator[None]:
    """A process that holds what `up` holds, as one of another host."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "store"), json.dumps(ELSEWHERE.to_json())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.kill()


@pytest.mark.parametrize(
    ("process", "here"),
    [
        pytest.param(HERE, True, id="this process"),
        pytest.param(replace(HERE, boot=""), True, id="written by an earlier version: the name has to do"),
        pytest.param(replace(HERE, boot="another-boot"), False, id="before the last boot, or a namesake"),
        pytest.param(replace(HERE, host="box"), False, id="a container on this machine has its own loopback"),
        pytest.param(ELSEWHERE, False, id="another machine"),
    ],
)
def test_a_host_is_known_by_its_name_and_its_boot_id(process: ProcessIdentity, *, here: bool) -> None:
    assert process.is_on_this_host is here


def test_a_server_of_another_host_is_not_asked_even_if_something_answers_there(
    tmp_path: Path, prefect_url: str
) -> None:
    (tmp_path / "prefect").mkdir()
    write_record(tmp_path / "prefect", ServerRecord(prefect_url, HERE, 0.0))
    assert running_server(tmp_path / "prefect") == prefect_url
    write_record(tmp_path / "prefect", ServerRecord(prefect_url, ELSEWHERE, 0.0))
    assert running_server(tmp_path / "prefect") is None


def test_the_record_of_another_host_is_not_removed(tmp_path: Path) -> None:
    record = ServerRecord(LOOPBACK_OF_BOTH, ELSEWHERE, 0.0)
    write_record(tmp_path, record)
    forget_record(tmp_path, ELSEWHERE.pid)
    assert read_record(tmp_path) == record


def test_a_record_of_an_earlier_version_is_one_of_this_host(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"url": "http://127.0.0.1:4200/api", "pid": 7, "started": 1.0}\n')
    found = read_record(tmp_path)
    assert found is not None
    assert found.process.is_on_this_host


def test_while_another_host_runs_the_server_a_command_ends_and_holds_no_lock(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    home.mkdir()
    claim = claim_database(home)
    assert claim is not None
    (home / "server.lock").write_text(json.dumps(ELSEWHERE.to_json()))
    expected = rf"runs on the host other\.example \(pid {os.getpid()}\).* leave --prefect out"
    with pytest.raises(PrefectServerElsewhere, match=expected), prefect_api(home, environment={}):
        pass
    os.close(claim)


@pytest.mark.usefixtures("up_elsewhere")
def test_sync_runs_without_prefect_while_up_runs_on_another_host(profile: Path) -> None:
    done = mirrorflow("sync", profile)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "`mirrorflow up` runs on the host other.example" in done.stderr
    assert "without Prefect" in done.stderr
    assert "1 of 1 images" in done.stdout


@pytest.mark.usefixtures("up_elsewhere")
def test_sync_with_prefect_names_the_host_that_has_the_server(profile: Path) -> None:
    done = mirrorflow("sync", profile, "--prefect")
    assert done.returncode == 1
    assert f"on the host other.example (pid {os.getpid()})" in done.stderr


@pytest.mark.usefixtures("up_elsewhere")
def test_a_second_up_names_the_host_of_the_first(profile: Path) -> None:
    done = mirrorflow("up", profile)
    assert done.returncode == 1
    assert f"another `mirrorflow up` (pid {os.getpid()} on other.example)" in done.stderr
    assert "or run `mirrorflow serve` on this host" in " ".join(done.stderr.split())


@pytest.mark.usefixtures("up_elsewhere")
def test_what_runs_on_another_host_does_not_run_here(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    assert store.is_claimed("up")
    assert not store.is_claimed_here("up")
    assert store.claimant("up") == ELSEWHERE
    with store.claim("gc"):
        assert store.is_claimed_here("gc")


def test_a_role_names_this_host(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.claim("up"):
        assert json.loads((store.root / "locks/up").read_text())["host"] == socket.gethostname()


@pytest.mark.parametrize(
    ("written", "home"),
    [
        pytest.param("{rootDirectory: store}", "store/prefect", id="by default in the store"),
        pytest.param("{rootDirectory: store, prefectHome: local}", "local", id="beside the profile"),
        pytest.param("{rootDirectory: store, prefectHome: /var/p}", "/var/p", id="on a disk of this host"),
    ],
)
def test_where_the_own_prefect_server_keeps_its_files(tmp_path: Path, written: str, home: str) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(f"storage: {written}\nsync: {{registries: []}}\n")
    assert prefect_home(load_profile(path).profile.storage) == tmp_path.resolve() / home


@pytest.mark.usefixtures("up_elsewhere")
def test_with_a_prefect_home_of_its_own_a_host_runs_a_server_of_its_own(
    profile: Path, tmp_path: Path
) -> None:
    profile.write_text(profile.read_text().replace("store}", "store, prefectHome: local}"))
    done = mirrorflow("sync", profile, "--prefect")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 images" in done.stdout
    assert (tmp_path / "local/prefect.db").is_file()
    assert [each.name for each in (tmp_path / "store/prefect").iterdir()] == ["server.lock"]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_up_keeps_its_records_in_the_prefect_home(tmp_path: Path, prefect_url: str) -> None:
    mirror = Mirror(tmp_path, prefect_url)
    mirror.write("once")
    mirror.profile.write_text(mirror.profile.read_text().replace("store}", "store, prefectHome: local}"))
    with mirror.up() as up:
        up.follow(until=DeploymentsApplied)
    assert (tmp_path / "local/runner.log").is_file()
    assert not (tmp_path / "store/prefect").exists()


NFS = (
    "22 1 0:51 / / rw - nfs4 files.example:/export rw,vers=4.2,hard,local_lock=none"  # attributes are cached
)


def test_up_begins_nothing_where_another_host_could_be_seen_late(profile: Path, tmp_path: Path) -> None:
    done = run_as_if_mounted(NFS, [*COMMAND, "up", str(profile)], folder=tmp_path)
    assert done.returncode == 1
    assert "mount it with actimeo=0,lookupcache=none" in " ".join(done.stderr.split())


def test_gc_collects_for_a_host_that_is_alone(profile: Path, tmp_path: Path) -> None:
    Store.open(tmp_path / "store")
    gc = [*COMMAND, "store", "gc", str(profile)]
    refused = run_as_if_mounted(NFS, gc, folder=tmp_path)
    assert refused.returncode == 1
    assert "storage.sharedFileSystem: exclusive" in " ".join(refused.stderr.split())
    alone = profile.read_text().replace(
        "rootDirectory: store", "rootDirectory: store, sharedFileSystem: exclusive"
    )
    profile.write_text(alone)
    collected = run_as_if_mounted(NFS, gc, folder=tmp_path)
    assert collected.returncode == 0, collected.stderr
    assert server_options(load_profile(profile).profile).shared_file_system == "exclusive"


def test_doctor_says_how_to_mount_it(profile: Path, tmp_path: Path) -> None:
    done = run_as_if_mounted(NFS, [*COMMAND, "doctor", str(profile)], folder=tmp_path)
    said = " ".join(done.stdout.split())
    assert "file system" in said
    assert "mount it with actimeo=0,lookupcache=none" in said
