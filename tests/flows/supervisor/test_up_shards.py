"""`sync` through a running `up` whose entry has shards: real flows, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from rich.console import Console

from flows.orchestration.deployments import Definition, our_deployments
from flows.orchestration.flow_run_query import find_flow_runs
from flows.orchestration.runner import process_limit
from flows.orchestration.runner_events import DeploymentsApplied
from flows.supervisor.up import Supervisor
from profiles.values.shard import Shard
from registry_server.store.store import Store
from tests.flows.mirrors import ROOT
from tests.support.waiting import wait_for
from tests.support_misbehaving import Misbehaving, hangs, well_behaved
from tests.tasks.runs import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MIRRORFLOW = [sys.executable, "-c", "from flows.cli import main; main()"]
NAMES = [f"apps/app-{number}" for number in range(6)]
ENTRY = f"shards-{uuid4().hex[:6]}"
PARTS = [f"{ENTRY}:1-of-2", f"{ENTRY}:2-of-2"]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        for name in NAMES:
            found.add_image(name, "1", (name.encode(),))
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, upstream: Misbehaving) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    entry = {"name": ENTRY, "urls": [f"http://{upstream.host}"], "content": [{"prefix": "**"}], "shards": 2}
    document = {
        "storage": {"rootDirectory": "store"},
        "http": {"port": 0},
        "sync": {"registries": [entry]},
    }
    (folder / "profile.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def environment(folder: Path, prefect_url: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_API_URL": prefect_url,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def store(folder: Path, environment: dict[str, str]) -> Iterator[Store]:
    console = Console(quiet=True)
    with Supervisor(folder / "profile.json", environment=environment, console=console) as up:
        first = up.follow(until=DeploymentsApplied)
        assert isinstance(first, DeploymentsApplied)
        assert [each.name for each in first.entries] == PARTS
        yield Store.open(folder / "store")


def sync(folder: Path, environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
    command = [*MIRRORFLOW, "sync", str(folder / "profile.json"), *options]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_sync_starts_all_shards_and_waits_for_them(
    folder: Path, environment: dict[str, str], store: Store
) -> None:
    process = sync(folder, environment)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    for part in PARTS:
        assert f"{part}: Completed" in said
    assert f"{ENTRY}, shard 1/2: " in said
    assert set(visible(store)) == {f"{name}:1" for name in NAMES}
    assert [each["shard"] for part in PARTS for each in store.reports.load_all(part)] == ["1/2", "2/2"]


def test_an_image_is_brought_by_the_run_of_its_shard_alone(
    client: SyncPrefectClient, folder: Path, environment: dict[str, str], store: Store
) -> None:
    before = {run.id for run in find_flow_runs(client, deployments(client, store))}
    process = sync(folder, environment, "--image", f"{NAMES[0]}:1")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    [run] = [run for run in find_flow_runs(client, deployments(client, store)) if run.id not in before]
    assert Shard.parse(run.parameters["shard"]).owns(NAMES[0])
    assert run.name in [f"mirror {part}" for part in PARTS]


def test_ctrl_c_cancels_the_runs_of_all_shards(
    client: SyncPrefectClient,
    folder: Path,
    environment: dict[str, str],
    store: Store,
    upstream: Misbehaving,
) -> None:
    before = {run.id for run in find_flow_runs(client, deployments(client, store))}
    for name in NAMES:
        upstream.on(f"/v2/{name}/tags/list", hangs)
    upstream.seen.clear()
    process = sync(folder, environment)
    try:
        wait_for(lambda: len({each.path for each in upstream.requests("GET", "/tags/list")}) > 4)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        for name in NAMES:
            upstream.on(f"/v2/{name}/tags/list", well_behaved)
    assert process.returncode == 130, said
    runs = [run for run in find_flow_runs(client, deployments(client, store)) if run.id not in before]
    assert [run.state_name for run in runs] == ["Cancelled", "Cancelled"]
    assert "Traceback" not in said


def deployments(client: SyncPrefectClient, store: Store) -> list[UUID]:
    return [each.id for each in our_deployments(client, store.uuid)]


@pytest.mark.parametrize(
    ("entries", "chosen", "limit"),
    [
        pytest.param({"a": 1, "b": 1}, False, 5, id="Prefect's limit"),
        pytest.param({"a": 8, "b": 1}, False, 12, id="the shards of an entry count for one run"),
        pytest.param({"a": 8}, True, 5, id="what a user has chosen holds"),
        pytest.param({}, False, 5, id="no entry"),
    ],
)
def test_shards_run_side_by_side(entries: dict[str, int], *, chosen: bool, limit: int) -> None:
    wanted = [
        Definition(f"{name}:{number}", "", parameters={"registry": name})
        for name, shards in entries.items()
        for number in range(shards)
    ]
    assert process_limit(wanted, 5, is_chosen=chosen) == limit
