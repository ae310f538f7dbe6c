"""The files for those who keep deployments in git: Prefect's own commands take them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import yaml

from flows.orchestration.deployments import our_deployments
from flows.orchestration.work_pools.job_variables import ensure_work_pool
from registry_server.store.store import Store
from tests.flows.mirrors import ROOT
from tests.support.command_line import mirrorflow

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def prefect(url: str, folder: Path, *arguments: str) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "prefect", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def write(folder: Path, mark: str) -> Path:
    profile = folder / "profile.yaml"
    profile.write_text(
        "storage: {rootDirectory: /srv/nowhere}\n".replace("/srv/nowhere", str(folder / "store"))
        + "sync:\n  registries:\n"
        f"    - {{name: often-{mark}, urls: ['http://127.0.0.1:1'], pollInterval: 6h, shards: 2,\n"
        "       content: [{prefix: '**', select: 'config.Labels.\"{{ x }}\" == `1`'}],\n"
        "       deployment: {tags: [team-a], workQueue: night, jobVariables: {env: {A: '1'}}}}\n"
        f"    - {{name: nightly-{mark}, urls: ['http://127.0.0.1:1'], schedule: '30 3 * * *',\n"
        "       timeZone: Europe/Berlin, content: [{prefix: '**'}]}\n"
        f"    - {{name: asked-{mark}, urls: ['http://127.0.0.1:1'], content: [{{prefix: '**'}}]}}\n"
    )
    return profile


def test_prefect_registers_the_files(client: SyncPrefectClient, prefect_url: str, tmp_path: Path) -> None:
    mark = uuid4().hex[:6]
    profile, pool = write(tmp_path, mark), ensure_work_pool(client, f"pool-{mark}", "docker").name
    options = ["--work-pool", pool, "-j", "image=mirrorflow:1", "--write", tmp_path / "prefect.yaml"]
    done = mirrorflow("deploy", profile, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "written",
        str(tmp_path / "prefect.yaml"),
        "written",
        str(tmp_path / "prefect-automations.yaml"),
    ]
    prefect(prefect_url, tmp_path, "--no-prompt", "deploy", "--all", "--prefect-file", "prefect.yaml")
    store = Store.open(tmp_path / "store").uuid
    found = {each.name: each for each in our_deployments(client, store)}
    parts = [f"often-{mark}:1-of-2", f"often-{mark}:2-of-2"]
    assert set(found) == {*parts, f"nightly-{mark}", f"asked-{mark}"}
    assert {each.work_pool_name for each in found.values()} == {pool}
    assert {each.entrypoint for each in found.values()} == {"flows.mirror_registry.mirror_registry"}
    assert all(not each.pull_steps for each in found.values())
    limits = [each.global_concurrency_limit for each in found.values()]
    assert [limit and limit.limit for limit in limits] == [1] * 4

    first = found[parts[0]]
    assert first.parameters == {"profile": str(profile), "registry": f"often-{mark}", "shard": "1/2"}
    assert first.tags[2:] == ["team-a"]
    assert first.work_queue_name == "night"
    assert first.job_variables == {
        "image": "mirrorflow:1",
        "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "A": "1"},
    }
    schedules: list[Any] = [found[each].schedules[0].schedule for each in parts]
    assert [each.interval for each in schedules] == [timedelta(hours=6)] * 2
    assert schedules[0].anchor_date != schedules[1].anchor_date, "they need not begin at once"
    nightly: Any = found[f"nightly-{mark}"].schedules[0].schedule
    assert (nightly.cron, nightly.timezone) == ("30 3 * * *", "Europe/Berlin")
    assert found[f"asked-{mark}"].schedules == []

    prefect(prefect_url, tmp_path, "automation", "create", "--from-file", "prefect-automations.yaml")
    for name in (f"mirrorflow {store}: lost runs", f"mirrorflow {store}: runs that never began"):
        [automation] = client.read_automations_by_name(name)
        client.delete_automation(automation.id)
    again = mirrorflow("deploy", profile, "--work-pool", pool, PREFECT_API_URL=prefect_url)
    assert again.returncode == 0, "deploy takes over what the files have made"
    for name in (f"mirrorflow {store}: lost runs", f"mirrorflow {store}: runs that never began"):
        [automation] = client.read_automations_by_name(name)
        client.delete_automation(automation.id)


def test_the_files_are_the_same_when_nothing_has_changed(tmp_path: Path) -> None:
    """Else each `deploy --write` would be a commit."""
    profile, file = write(tmp_path, "x"), tmp_path / "prefect.yaml"
    texts = []
    for _ in range(2):
        done = mirrorflow("deploy", profile, "--work-pool", "farm", "--write", file)
        assert done.returncode == 0, done.stderr
        texts.append(file.read_text() + (tmp_path / "prefect-automations.yaml").read_text())
    assert texts[0] == texts[1]
    assert len(yaml.safe_load(file.read_text())["deployments"]) == 4


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param(["--write", "x.yaml"], "--write is for workers: name their work pool", id="no pool"),
        pytest.param(
            ["--work-pool", "p", "--write", "x.yaml", "--profile-block", "b"],
            "--write asks no server",
            id="a block",
        ),
        pytest.param(
            ["--work-pool", "p", "--write", "/nowhere/x.yaml"],
            "/nowhere/x.yaml: cannot be written",
            id="no folder",
        ),
    ],
)
def test_what_cannot_be_written_says_why(tmp_path: Path, options: list[str], error: str) -> None:
    done = mirrorflow("deploy", write(tmp_path, "x"), *options)
    assert done.returncode == 1
    assert error in done.stderr
