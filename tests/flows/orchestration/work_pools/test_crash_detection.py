"""Runs of workers whose host dies."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from flows.orchestration.deployments import Definition
from flows.orchestration.work_pools.crash_detection import (
    HEARTBEAT_VARIABLE,
    apply_automations,
    automations,
    remove_automations,
    silence_allowed,
    with_heartbeat,
)
from tests.flows.orchestration.work_pools.worker import Worker, eventually

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from prefect.client.orchestration import SyncPrefectClient

    from tests.flows.applying import Apply

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SHORT = timedelta(seconds=15)
"""Shorter than the time to the second heartbeat, so that the test need not wait for two of 30 s."""


def test_a_run_whose_host_dies_is_crashed_and_the_next_poll_begins(
    client: SyncPrefectClient, prefect_url: str, apply: Apply, tmp_path: Path
) -> None:
    name = f"slow-{uuid4().hex[:6]}"
    worker = Worker(client, prefect_url, tmp_path)
    parameters = {"profile": str(tmp_path / "profile"), "registry": name}
    definition = Definition(name, "", None, parameters, job_variables=with_heartbeat({}))
    apply(definition, work_pool=worker.pool)
    wanted = automations(apply.store, SHORT)
    apply_automations(client, wanted)
    try:
        with worker:
            run = worker.start_run(f"tiny/{name}")
            eventually((tmp_path / f"profile.{name}").exists, worker)
            worker.lose_power()
        assert client.read_flow_run(run.id).state_name == "Running", "nobody was there to report its end"
        refused = worker.start_run(f"tiny/{name}")
        with worker:
            assert worker.await_state(refused.id, "Cancelled").state_name == "Cancelled", "the slot is taken"
            ended = worker.await_state(run.id, "Crashed")
            assert ended.state is not None
            assert ended.state.message == (
                "no heartbeat for 15 s: the host of the run died, or lost the network"
            )
            following = worker.start_run(f"tiny/{name}")
            worker.await_state(following.id, "Running")
    finally:
        remove_automations(client, wanted)


@pytest.mark.parametrize("event", ["Running", "heartbeat"])
def test_a_run_is_watched_from_its_start(event: str) -> None:
    """Its host may die before the first heartbeat."""
    lost = automations("a store", SHORT)[0]
    assert f"prefect.flow-run.{event}" in lost.trigger.after  # type: ignore[union-attr] # it is about events


def test_applying_automations_again_changes_what_differs_and_leaves_them_switched_off(
    client: SyncPrefectClient,
) -> None:
    store = str(uuid4())
    lost = automations(store, SHORT)
    name = lost[0].name
    try:
        apply_automations(client, lost)
        [first] = client.read_automations_by_name(name)
        client.pause_automation(first.id)
        apply_automations(client, automations(store, timedelta(seconds=75)))
        [again] = client.read_automations_by_name(name)
        assert again.id == first.id
        assert not again.enabled, "a user has switched it off"
        trigger: Any = again.trigger
        assert trigger.within == timedelta(seconds=75)
    finally:
        remove_automations(client, lost)
    assert client.read_automations_by_name(name) == []


@pytest.mark.parametrize(
    ("given", "env"),
    [
        pytest.param({}, {HEARTBEAT_VARIABLE: "30"}, id="none"),
        pytest.param({"env": {"A": "1"}}, {HEARTBEAT_VARIABLE: "30", "A": "1"}, id="beside others"),
        pytest.param({"env": {HEARTBEAT_VARIABLE: "90"}}, {HEARTBEAT_VARIABLE: "90"}, id="the profile says"),
    ],
)
def test_runs_of_workers_send_heartbeats(given: dict[str, Any], env: dict[str, str]) -> None:
    assert with_heartbeat({"image": "x", **given}) == {"image": "x", "env": env}


@pytest.mark.parametrize(
    ("frequencies", "seconds"),
    [
        pytest.param([], 75, id="no deployment"),
        pytest.param(["30", "90"], 195, id="twice the slowest, and 15 s for delays"),
        pytest.param(["5"], 75, id="Prefect sends none more often than every 30 s"),
        pytest.param(["often"], 75, id="no number"),
    ],
)
def test_a_run_may_miss_one_heartbeat(frequencies: list[str], seconds: int) -> None:
    definitions = [
        Definition("x", "", job_variables={"env": {HEARTBEAT_VARIABLE: each}}) for each in frequencies
    ]
    assert silence_allowed(definitions) == timedelta(seconds=seconds)
