"""Prefect's own commands, as a user types them, against the server of `up`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flows.orchestration.deployment_runs import await_run, start_run
from flows.orchestration.runner_events import DeploymentsApplied
from tests.flows.mirrors import Mirror

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.orchestration import SyncPrefectClient

    from flows.orchestration.deployment_runs import Run

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, prefect_url: str) -> Iterator[Mirror]:
    mirror = Mirror(tmp_path_factory.mktemp("mirror"), prefect_url)
    mirror.write("once")
    with mirror.up() as up:
        up.follow(until=DeploymentsApplied)
        yield mirror


@pytest.fixture(scope="module")
def run(mirror: Mirror) -> Run:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=mirror.name("pool"), type="process"))
        return await_run(client, start_run(client, mirror.store, mirror.name("once")))


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        pytest.param("deployment ls", "once-", id="fastapi 0.151 answers it with 422"),
        pytest.param("flow-run ls", "tiny", id="and this"),
        pytest.param("flow-run logs RUN", "Failed", id="the log of a run"),
        pytest.param("work-pool ls", "pool-", id="work pools"),
        pytest.param("automation ls", "Automations", id="and the list of automations"),
    ],
)
def test_prefects_own_commands_work_against_the_server(
    client: SyncPrefectClient, mirror: Mirror, run: Run, command: str, shown: str
) -> None:
    arguments = command.replace("RUN", str(run.id)).split()
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env={**mirror.environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown in done.stdout
