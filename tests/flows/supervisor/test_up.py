"""`up` as a whole, with its children; its Prefect server is the one that all engine tests share."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.orchestration.deployment_runs import (
    RunRefused,
    await_run,
    cancel_run,
    failed_runs,
    read_run,
    start_run,
)
from flows.orchestration.deployments import our_deployments
from flows.orchestration.flow_run_query import find_flow_runs
from flows.orchestration.runner_events import (
    DeploymentsApplied,
    LeftoversCleared,
    ProfileChanged,
    ProfileRefused,
)
from flows.supervisor.up import SupervisorError
from registry_server.http.server_process import ServerFailed
from registry_server.store.errors import StoreLocked
from tests.flows.mirrors import Mirror

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

    from flows.orchestration.deployment_runs import Run
    from flows.supervisor.up import Supervisor

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, prefect_url: str) -> Mirror:
    mirror = Mirror(tmp_path_factory.mktemp("mirror"), prefect_url)
    mirror.write("quick", "slow", "once")
    return mirror


@pytest.fixture(scope="module")
def up(mirror: Mirror) -> Iterator[Supervisor]:
    with mirror.up() as up:
        first = up.follow(until=DeploymentsApplied)
        assert isinstance(first, DeploymentsApplied)
        assert [(entry.name, entry.started) for entry in first.entries] == [
            (mirror.name("quick"), True),
            (mirror.name("slow"), True),
            (mirror.name("once"), False),
        ]
        yield up


def test_the_first_run_begins_by_itself(client: SyncPrefectClient, mirror: Mirror, up: Supervisor) -> None:
    assert _state_of_newest(client, mirror, "quick") == "Completed"


def test_a_planned_run_is_named_after_its_entry_before_it_starts(
    client: SyncPrefectClient, mirror: Mirror, up: Supervisor
) -> None:
    identifier = _deployment(client, mirror, "quick")
    wanted = f"mirror {mirror.name('quick')}"
    deadline = time.monotonic() + 30
    while not (planned := find_flow_runs(client, [identifier], types=["SCHEDULED"])) or (
        {run.name for run in planned} != {wanted}
    ):
        assert time.monotonic() < deadline, [run.name for run in planned]
        time.sleep(0.2)


def test_a_run_that_would_overlap_is_refused(
    client: SyncPrefectClient, mirror: Mirror, up: Supervisor
) -> None:
    _wait_for_run(mirror, "slow")
    second = start_run(client, mirror.store, mirror.name("slow"))
    with pytest.raises(RunRefused, match="in progress already"):
        await_run(client, second)
    assert read_run(client, str(second.id)).state == "Cancelled"


def test_a_failed_run_is_retried_by_the_runner_with_its_parameters(
    client: SyncPrefectClient, mirror: Mirror, up: Supervisor
) -> None:
    states: list[str] = []

    def note(run: Run) -> None:
        states.append(run.state)

    only = ["library/nginx:1.25"]
    asked = start_run(client, mirror.store, mirror.name("once"), only=only)
    failed = await_run(client, asked, on_change=note)
    assert (failed.state, failed.message) == ("Failed", "0 of 1 images, 1 failed")
    assert states[-1] == "Failed"
    assert failed.id in [run.id for run in failed_runs(client, mirror.store)]

    _press_retry(client, failed)
    again = await_run(client, _when_not_final(client, failed))
    assert (again.id, again.state, again.parameters["only"]) == (failed.id, "Completed", only)
    assert len(mirror.pids("once")) == 2, "executed twice, by two processes"


def test_a_run_is_cancelled_on_request(client: SyncPrefectClient, mirror: Mirror, up: Supervisor) -> None:
    _wait_for_run(mirror, "slow")
    running = find_flow_runs(client, [_deployment(client, mirror, "slow")], types=["RUNNING"])
    assert cancel_run(client, read_run(client, str(running[0].id))).state == "Cancelled"


def test_a_changed_profile_is_taken_over_and_a_bad_one_refused(
    client: SyncPrefectClient, mirror: Mirror, up: Supervisor
) -> None:
    mirror.write("quick", "quick2", "once", poll="2h")
    changed = up.follow(until=ProfileChanged)
    assert isinstance(changed, ProfileChanged)
    assert changed.added == (mirror.name("quick2"),)
    assert changed.changed == (mirror.name("quick"),)
    assert changed.removed == (mirror.name("slow"),)
    assert [(entry.name, entry.started) for entry in changed.entries][:2] == [
        (mirror.name("quick"), False),
        (mirror.name("quick2"), True),
    ], "only what is new begins at once"

    mirror.profile.write_text("sync: {registries: [{url: ghcr.io}]}\n")
    refused = up.follow(until=ProfileRefused)
    assert isinstance(refused, ProfileRefused)
    assert "profile.yaml:1" in refused.message
    found = {deployment.name for deployment in our_deployments(client, mirror.store)}
    assert found == {mirror.name(entry) for entry in ("quick", "quick2", "once")}
    mirror.write("quick", "quick2", "once", poll="2h")


def test_a_second_up_on_the_store_says_so(mirror: Mirror, up: Supervisor) -> None:
    with pytest.raises(
        StoreLocked, match=rf"another `mirrorflow up` \(pid {os.getpid()} on .+\) serves this store"
    ):
        mirror.up().__enter__()


def test_after_a_crash_the_leftovers_are_cleared_and_the_next_run_goes(
    client: SyncPrefectClient, tmp_path: Path, prefect_url: str
) -> None:
    mirror = Mirror(tmp_path, prefect_url)
    mirror.write("stubborn")
    with mirror.up() as crashing:
        crashing.follow(until=DeploymentsApplied)
        [pid] = _wait_for_run(mirror, "stubborn")
        assert crashing._runner is not None
        os.killpg(crashing._runner.pid, signal.SIGKILL)
        with pytest.raises(SupervisorError, match="the runner ended with status -9"):
            crashing.follow()
    assert not _alive(pid)
    assert _state_of_newest(client, mirror, "stubborn", final=False) == "Running"

    with mirror.up() as up:
        cleared = up.follow(until=LeftoversCleared)
        assert cleared == LeftoversCleared(crashed=1, dropped=0)
        up.follow(until=DeploymentsApplied)
        [_, pid] = _wait_for_run(mirror, "stubborn", times=2)
        begun = time.monotonic()
        up.stop()
        assert time.monotonic() - begun < 10, "the run does not listen, and is killed after its grace"
    assert not _alive(pid)
    assert _state_of_newest(client, mirror, "stubborn") in {"Cancelled", "Crashed"}
    assert [deployment.paused for deployment in our_deployments(client, mirror.store)] == [True]


def test_a_port_in_use_is_said_before_anything_is_started(
    tmp_path: Path, prefect_url: str, up: Supervisor
) -> None:
    mirror = Mirror(tmp_path, prefect_url)
    port = int(up.registry_url.rpartition(":")[2])
    mirror.write("quick", port=port)
    with pytest.raises(ServerFailed, match=str(port)):
        mirror.up().__enter__()


def _deployment(client: SyncPrefectClient, mirror: Mirror, entry: str) -> UUID:
    name = mirror.name(entry)
    return next(each.id for each in our_deployments(client, mirror.store) if each.name == name)


def _state_of_newest(
    client: SyncPrefectClient, mirror: Mirror, entry: str, *, final: bool = True
) -> str | None:
    identifier = _deployment(client, mirror, entry)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        runs = [run for run in find_flow_runs(client, [identifier]) if run.start_time]
        if runs and runs[0].state and (not final or runs[0].state.is_final()):
            return runs[0].state_name
        time.sleep(0.2)
    return None


def _wait_for_run(mirror: Mirror, entry: str, *, times: int = 1) -> list[int]:
    deadline = time.monotonic() + 60
    while len(pids := mirror.pids(entry)) < times:
        assert time.monotonic() < deadline, f"no run of {entry}"
        time.sleep(0.1)
    return pids


def _press_retry(client: SyncPrefectClient, run: Run) -> None:
    """What the UI sends."""
    from prefect.client.schemas.objects import State, StateType

    client.set_flow_run_state(run.id, State(type=StateType.SCHEDULED, name="AwaitingRetry"))


def _when_not_final(client: SyncPrefectClient, run: Run) -> Run:
    found = read_run(client, str(run.id))
    assert not found.final
    return found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
