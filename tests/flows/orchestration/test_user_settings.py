"""What users set on a deployment, in the UI or with Prefect's commands, is there after the next `deploy`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from flows.orchestration.deployment_changes import PAUSED_TAG, SCHEDULE_SLUG
from flows.orchestration.deployments import Definition, pause_deployments
from profiles.values.poll_timing import PollInterval, PollSchedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

    from tests.flows.applying import Apply

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HOUR = PollInterval(3600)


@pytest.fixture
def definition() -> Definition:
    parameters = {"profile": "/nowhere/p.yaml", "registry": "docker.io"}
    return Definition(f"entry-{uuid4().hex[:8]}", "every hour", HOUR, parameters)


@pytest.fixture
def identifier(apply: Apply, definition: Definition) -> UUID:
    return apply(definition).applied[0].id


def _update(client: SyncPrefectClient, identifier: UUID, **fields: object) -> None:
    from prefect.client.schemas.actions import DeploymentUpdate

    client.update_deployment(identifier, DeploymentUpdate(**fields))


def _pause(client: SyncPrefectClient, identifier: UUID) -> None:
    client.pause_deployment(identifier)


def _tag(client: SyncPrefectClient, identifier: UUID) -> None:
    _update(client, identifier, tags=[*client.read_deployment(identifier).tags, "team-b"])


def _give_variables(client: SyncPrefectClient, identifier: UUID) -> None:
    _update(client, identifier, job_variables={"env": {"TEAM": "b"}})


def _let_two_run(client: SyncPrefectClient, identifier: UUID) -> None:
    _update(client, identifier, concurrency_limit=2)


def _add_schedule(client: SyncPrefectClient, identifier: UUID) -> None:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    night = CronSchedule(cron="0 2 * * *", timezone="Asia/Tokyo")
    client.create_deployment_schedules(identifier, [DeploymentScheduleCreate(schedule=night, active=True)])


def _switch_schedule_off(client: SyncPrefectClient, identifier: UUID) -> None:
    [ours] = client.read_deployment(identifier).schedules
    client.update_deployment_schedule(identifier, ours.id, active=False, parameters={"only": ["a:1"]})


def _move_to_a_queue(client: SyncPrefectClient, identifier: UUID) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    pool = client.create_work_pool(WorkPoolCreate(name=f"pool-{uuid4().hex[:8]}", type="process"))
    _update(client, identifier, work_pool_name=pool.name, work_queue_name="slow")


def _give_a_parameter(client: SyncPrefectClient, identifier: UUID) -> None:
    parameters = client.read_deployment(identifier).parameters
    _update(client, identifier, parameters=parameters | {"only": ["library/nginx"]})


def _settings(live: DeploymentResponse) -> dict[str, object]:
    limit = live.global_concurrency_limit
    return {
        "paused": live.paused,
        "tags": sorted(live.tags),
        "variables": live.job_variables,
        "limit": limit.limit if limit else None,
        "schedules": sorted((str(each.id), each.active, str(each.parameters)) for each in live.schedules),
        "queue": (live.work_pool_name, live.work_queue_name),
        "parameters": live.parameters,
    }


@pytest.mark.parametrize(
    "setting",
    [
        _pause,
        _tag,
        _give_variables,
        _let_two_run,
        _add_schedule,
        _switch_schedule_off,
        _move_to_a_queue,
        _give_a_parameter,
    ],
)
@pytest.mark.parametrize("changed", [False, True], ids=["the same profile", "a changed profile"])
def test_what_a_user_sets_survives_another_deploy(
    client: SyncPrefectClient,
    apply: Apply,
    definition: Definition,
    identifier: UUID,
    setting: Callable[[SyncPrefectClient, UUID], None],
    *,
    changed: bool,
) -> None:
    setting(client, identifier)
    before = client.read_deployment(identifier)
    apply(replace(definition, description="new", timing=PollInterval(60)) if changed else definition)
    after = client.read_deployment(identifier)
    assert _settings(after) == _settings(before)
    assert after.description == ("new" if changed else "every hour")
    ours = [each.schedule for each in after.schedules if each.slug == SCHEDULE_SLUG]
    assert [getattr(each, "interval", None) for each in ours] == [timedelta(minutes=1 if changed else 60)]
    if not changed:
        assert after.updated == before.updated, "an update makes Prefect forget the runs that it has planned"


def test_what_up_paused_is_resumed_and_what_a_user_paused_is_not(
    client: SyncPrefectClient, apply: Apply, definition: Definition
) -> None:
    other = replace(definition, name=f"{definition.name}-2")
    ours, theirs = (each.id for each in apply(definition, other).applied)
    client.pause_deployment(theirs)
    pause_deployments(client, apply.store)
    assert [client.read_deployment(each).paused for each in (ours, theirs)] == [True, True]
    changes = apply(definition, other, first_runs="overdue")
    assert [client.read_deployment(each).paused for each in (ours, theirs)] == [False, True]
    assert [(each.started, each.paused) for each in changes.applied] == [(True, False), (False, True)]
    assert [each.due is None for each in changes.applied] == [False, True]
    assert PAUSED_TAG not in client.read_deployment(ours).tags, "the next pause may be a user's"


def test_what_a_user_resumed_before_the_start_is_only_freed_of_the_tag(
    client: SyncPrefectClient, apply: Apply, definition: Definition, identifier: UUID
) -> None:
    pause_deployments(client, apply.store)
    client.resume_deployment(identifier)
    apply(definition)
    client.pause_deployment(identifier)
    apply(definition)
    assert client.read_deployment(identifier).paused


def test_the_profile_changes_what_it_says(
    client: SyncPrefectClient, apply: Apply, definition: Definition
) -> None:
    first = replace(definition, tags=("a", "b"), job_variables={"env": {"A": "1"}, "image": "i"})
    identifier = apply(first).applied[0].id
    _update(client, identifier, tags=[*client.read_deployment(identifier).tags, "c"])
    apply(replace(first, tags=("b",), job_variables={"env": {"A": "2"}}, timing=PollSchedule("5 4 * * *")))
    live = client.read_deployment(identifier)
    assert {"a", "b", "c"} & set(live.tags) == {"b", "c"}
    assert live.job_variables == {"env": {"A": "2"}}
    assert [(each.slug, getattr(each.schedule, "cron", "")) for each in live.schedules] == [
        (SCHEDULE_SLUG, "5 4 * * *")
    ]
    apply(replace(first, timing=None))
    assert client.read_deployment(identifier).schedules == []


def test_the_work_queue_of_the_profile_is_made_in_the_pool(
    client: SyncPrefectClient, apply: Apply, definition: Definition
) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    pool = client.create_work_pool(WorkPoolCreate(name=f"pool-{uuid4().hex[:8]}", type="process")).name
    identifier = apply(replace(definition, work_queue="mirrors"), work_pool=pool).applied[0].id
    live = client.read_deployment(identifier)
    assert (live.work_pool_name, live.work_queue_name) == (pool, "mirrors")
    apply(replace(definition, work_queue="others"), work_pool=pool)
    assert client.read_deployment(identifier).work_queue_name == "others"
    assert apply(definition).applied[0].work_pool == pool, "without --work-pool it stays where it is"
    assert client.read_deployment(identifier).work_queue_name == "others"


def test_a_schedule_without_a_slug_that_runs_at_the_same_times_is_taken_for_ours(
    client: SyncPrefectClient, apply: Apply, definition: Definition, identifier: UUID
) -> None:
    """Deployments that an earlier version made have one."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    [ours] = client.read_deployment(identifier).schedules
    client.delete_deployment_schedule(identifier, ours.id)
    old = DeploymentScheduleCreate(schedule=ours.schedule, active=True)
    client.create_deployment_schedules(identifier, [old])
    apply(definition)
    assert [each.slug for each in client.read_deployment(identifier).schedules] == [SCHEDULE_SLUG]
