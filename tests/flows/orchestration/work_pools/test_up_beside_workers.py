"""`up` with the Prefect server and the store of workers: what is whose."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from flows.orchestration.deployments import Definition, our_deployments
from flows.orchestration.runner_events import DeploymentsApplied, EntrySchedule, RunEnded
from flows.orchestration.work_pools.crash_detection import HEARTBEAT_VARIABLE
from flows.supervisor.up import runner_environment
from flows.supervisor.view import schedule_table
from tests.flows.mirrors import Mirror
from tests.flows.orchestration.work_pools.worker import Worker, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from tests.flows.applying import Apply

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_up_leaves_the_runs_of_workers_alone_and_runs_the_other_entries(
    client: SyncPrefectClient, prefect_url: str, apply: Apply, tmp_path: Path
) -> None:
    mirror = Mirror(tmp_path, prefect_url)
    mirror.write("slow")
    slow, asked = mirror.name("slow"), mirror.name("once")
    worker = Worker(client, prefect_url, tmp_path)
    parameters = {"profile": str(mirror.profile), "registry": slow}
    apply(Definition(slow, "", None, parameters), work_pool=worker.pool, store=mirror.store)
    with worker:
        run = worker.start_run(f"tiny/{slow}")
        eventually((tmp_path / f"profile.yaml.{slow}").exists, worker)
        mirror.write("slow", "once")
        with mirror.up() as up:
            applied = up.follow(until=DeploymentsApplied)
            assert isinstance(applied, DeploymentsApplied)
            pools = {each.name: each.work_pool for each in applied.entries}
            assert pools == {slow: worker.pool, asked: ""}
            ours = next(each for each in our_deployments(client, mirror.store) if each.name == asked)
            client.create_flow_run_from_deployment(ours.id)
            ended = up.follow(until=RunEnded)
            assert isinstance(ended, RunEnded)
            assert ended.name == asked
        assert client.read_flow_run(run.id).state_name == "Running"
        paused = {each.name: each.paused for each in our_deployments(client, mirror.store)}
        assert paused == {slow: False, asked: True}
        assert len(mirror.pids("slow")) == 1, "up has not run it a second time"


def test_up_says_which_entries_workers_run() -> None:
    entries = [
        EntrySchedule("a", "every 6h", None, started=False, work_pool="farm"),
        EntrySchedule("b", "", None, started=False),
    ]
    shown = list(schedule_table(entries).columns[1].cells)
    assert [str(each) for each in shown] == ["every 6h, by workers of farm", "no schedule"]


def test_up_does_not_change_where_workers_find_the_profile(
    client: SyncPrefectClient, prefect_url: str, apply: Apply, tmp_path: Path
) -> None:
    pool = Worker(client, prefect_url, tmp_path).pool
    name = f"entry-{uuid4().hex[:6]}"
    apply(Definition(name, "", None, {"profile": "elsewhere.yaml", "registry": name}), work_pool=pool)
    by_up = Definition(name, "", None, {"profile": "/srv/here.yaml", "registry": "renamed"})
    [applied] = apply(by_up).applied
    found = client.read_deployment(applied.id)
    assert found.parameters == {"profile": "elsewhere.yaml", "registry": "renamed"}
    assert found.work_pool_name == pool
    apply(by_up, work_pool=pool)
    assert client.read_deployment(applied.id).parameters["profile"] == "/srv/here.yaml", "deploy says so"


def test_the_runs_of_up_send_heartbeats_as_those_of_workers(tmp_path: Path) -> None:
    """The automation of `deploy` looks after all runs of a store."""
    url = "http://prefect.example/api"
    assert runner_environment({}, url, tmp_path)[HEARTBEAT_VARIABLE] == "30"
    chosen = {HEARTBEAT_VARIABLE: "60"}
    assert runner_environment(chosen, url, tmp_path)[HEARTBEAT_VARIABLE] == "60"
