from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from flows.orchestration.crash_cleanup import clear_leftovers, superseded_runs
from flows.orchestration.deployments import (
    Definition,
    DeploymentError,
    our_deployments,
    pause_deployments,
)
from flows.orchestration.flow_run_query import find_flow_runs, name_planned_runs
from profiles.values.poll_timing import PollInterval, PollSchedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from tests.flows.applying import Apply

# Prefect leaves sockets of its clients unclosed; its own suite ignores the same two.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HOUR = PollInterval(3600)
PARAMETERS = {"profile": "/nowhere/p.yaml", "registry": "docker.io"}


@pytest.fixture
def store(apply: Apply) -> str:
    return apply.store


@pytest.fixture
def name() -> str:
    """Deployments are known by name: one per test, as the server is shared."""
    return f"entry-{uuid4().hex[:8]}"


@pytest.mark.parametrize(
    ("anchor", "now", "due"),
    [
        pytest.param(0, 10, 3600, id="first interval"),
        pytest.param(0, 3600, 7200, id="exactly due is the next one: this one is being started"),
        pytest.param(0, 90_000, 93_600, id="a day off"),
        pytest.param(50, 10, 3650, id="an anchor that the clock has not reached"),
    ],
)
def test_the_next_run_keeps_the_rhythm_of_the_last_success(anchor: int, now: int, due: int) -> None:
    moments = [datetime.fromtimestamp(seconds, UTC) for seconds in (anchor, now, due)]
    assert HOUR.next_due(moments[0], moments[1]) == moments[2]


def test_a_schedule_makes_the_server_plan_runs(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    """Prefect 3.8 with SQLAlchemy 2.1 never does, and says so only in its own log."""
    changes = apply(Definition(name, "every hour", HOUR, PARAMETERS))
    planned = _eventually(lambda: find_flow_runs(client, [changes.applied[0].id]), seconds=15)
    assert {run.state_name for run in planned} == {"Scheduled"}
    assert planned[0].parameters == PARAMETERS


def test_planned_runs_are_named_after_their_entry(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    [applied] = apply(Definition(name, "every hour", HOUR, PARAMETERS)).applied
    theirs = client.create_flow_run_from_deployment(applied.id, name="mine-alone")
    planned = _eventually(lambda: find_flow_runs(client, [applied.id], names=["Scheduled"])[1:], seconds=15)
    assert name_planned_runs(client, {applied.id: name}) >= len(planned)
    names = {run.id: run.name for run in find_flow_runs(client, [applied.id])}
    assert names.pop(theirs.id) == "mine-alone", "a user asked for it"
    assert set(names.values()) == {f"mirror {name}"}
    assert name_planned_runs(client, {applied.id: name}) == 0
    client.delete_flow_run(theirs.id)


def test_a_cron_schedule_is_prefects_own(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    definition = Definition(name, "at night", PollSchedule("30 3 * * *", "Europe/Berlin"), PARAMETERS)
    [applied] = apply(definition).applied
    planned = _eventually(lambda: find_flow_runs(client, [applied.id]), seconds=15)
    assert applied.due is not None
    expected = [run.expected_start_time for run in planned]
    assert min(each.timestamp() for each in expected if each) == applied.due.timestamp()


def test_applying_again_changes_adds_and_removes(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    first = [Definition(f"{name}-a", "a", HOUR, PARAMETERS), Definition(f"{name}-b", "b", HOUR, PARAMETERS)]
    before = apply(*first)
    second = [
        Definition(f"{name}-b", "no schedule", None, PARAMETERS),
        Definition(f"{name}-c", "c", PollInterval(60)),
    ]
    after = apply(*second)

    assert after.removed == (f"{name}-a",)
    found = {deployment.name: deployment for deployment in our_deployments(client, store)}
    assert set(found) == {f"{name}-b", f"{name}-c"}
    kept = found[f"{name}-b"]
    assert kept.id == before.applied[1].id
    assert (kept.schedules, kept.description) == ([], "no schedule")
    assert kept.global_concurrency_limit is not None
    assert kept.global_concurrency_limit.limit == 1


def test_a_first_run_is_asked_for_once(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    definition = [Definition(name, "", HOUR, PARAMETERS)]
    first = apply(*definition, first_runs="overdue").applied[0]
    again = apply(*definition, first_runs="overdue").applied[0]
    assert (first.started, again.started) == (True, False), "the first one still waits"


def test_what_succeeded_a_moment_ago_waits_for_its_turn(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    definition = [Definition(name, "", HOUR, PARAMETERS)]
    identifier = apply(*definition).applied[0].id
    success = _pretend_success(client, identifier)

    again = apply(*definition, first_runs="overdue").applied[0]
    assert not again.started
    assert again.due == success + timedelta(hours=1)

    tomorrow = apply(
        *definition,
        first_runs="overdue",
        now=lambda: datetime.now(UTC) + timedelta(days=1),
    ).applied[0]
    assert tomorrow.started


def test_two_stores_on_one_server_do_not_take_each_others_names(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    apply(Definition(name, ""))
    with pytest.raises(DeploymentError, match=f"another `name` than '{name}'"):
        apply(Definition(name, ""), store=str(uuid4()))


def test_a_pause_forgets_what_was_planned_and_applying_resumes(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    definition = [Definition(name, "", HOUR, PARAMETERS)]
    identifier = apply(*definition).applied[0].id
    _eventually(lambda: find_flow_runs(client, [identifier]), seconds=15)
    pause_deployments(client, store)
    assert find_flow_runs(client, [identifier]) == []
    assert client.read_deployment(identifier).paused
    apply(*definition)
    assert not client.read_deployment(identifier).paused


def test_leftovers_are_ended_and_their_slot_is_free_at_once(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    identifier = apply(Definition(name, "", None, PARAMETERS)).applied[0].id
    from prefect.states import Pending, Running

    dead = client.create_flow_run_from_deployment(identifier)
    client.set_flow_run_state(dead.id, Pending())
    client.set_flow_run_state(dead.id, Running())
    refused = client.create_flow_run_from_deployment(identifier)
    client.set_flow_run_state(refused.id, Pending())
    assert client.read_flow_run(refused.id).state_name == "Cancelled", "the dead run holds the slot"

    cleared = clear_leftovers(client, store)
    assert cleared.crashed == 1
    ended = client.read_flow_run(dead.id)
    assert ended.state_name == "Crashed"
    assert ended.state
    assert ended.state.message == "the process ended without reporting a state"
    next_one = client.create_flow_run_from_deployment(identifier)
    client.set_flow_run_state(next_one.id, Pending())
    assert client.read_flow_run(next_one.id).state_name == "Pending"
    client.delete_flow_run(next_one.id)


def test_a_slot_whose_run_is_gone_is_free_again(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    """Leases live in the server's memory: what a killed server had lent out is never given back."""
    identifier = apply(Definition(name, "", None, PARAMETERS)).applied[0].id
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    limit = client.read_deployment(identifier).global_concurrency_limit
    assert limit is not None
    client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=1))
    assert clear_leftovers(client, store).slots == 1
    assert not clear_leftovers(client, store)


def test_of_what_is_late_only_the_newest_is_made_up_for(
    client: SyncPrefectClient, store: str, name: str, apply: Apply
) -> None:
    identifier = apply(Definition(name, "", None, PARAMETERS)).applied[0].id
    from prefect.states import Late

    moment = datetime.now(UTC) - timedelta(hours=3)
    late = [
        client.create_flow_run_from_deployment(
            identifier, state=Late(scheduled_time=moment + timedelta(hours=hour))
        )
        for hour in range(3)
    ]
    assert {run.id for run in superseded_runs(late)} == {late[0].id, late[1].id}
    assert clear_leftovers(client, store).dropped == 2
    assert [run.id for run in find_flow_runs(client, [identifier])] == [late[2].id]


def _pretend_success(client: SyncPrefectClient, deployment_id: UUID) -> datetime:
    from prefect.states import Completed, Pending, Running

    run = client.create_flow_run_from_deployment(deployment_id)
    for reached in (Pending, Running, Completed):
        client.set_flow_run_state(run.id, reached())
    started = client.read_flow_run(run.id).start_time
    assert started is not None
    return started


def _eventually(find: Callable[[], list[FlowRun]], *, seconds: float) -> list[FlowRun]:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, f"nothing within {seconds} s"
        time.sleep(0.2)
    return found
