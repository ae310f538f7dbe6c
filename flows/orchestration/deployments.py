"""Definitions of deployments, and making a Prefect server hold exactly those.

A deployment of ours carries two tags: `mirrorflow`, and one that names the store it belongs to, so
that two mirrors can share a Prefect server. The whole definition is applied each time: Prefect
takes a field that is left out as "clear it" in one call and as "keep it" in another. The entry
point is a module path, because a file path makes Prefect copy the working directory of whoever
applied the deployment into that of whoever runs it.

Prefect is imported inside the functions: the process must have its environment first, and it
costs 1.5 s.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from flows.orchestration.flow_run_query import find_flow_runs
from profiles.values.poll_timing import PollSchedule
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.responses import DeploymentResponse

    from profiles.values.poll_timing import PollTiming

FirstRuns = Literal["none", "new", "overdue"]
TAG = "mirrorflow"
ENTRYPOINT = "flows.mirror_registry.mirror_registry"
_PAGE = 200  # what the API hands out at once


class DeploymentError(MirrorflowError):
    """A deployment cannot be registered as the profile asks for."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What one registry entry asks of Prefect. `timing` None: no schedule."""

    name: str
    description: str
    timing: PollTiming | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Applied:
    """A deployment as the server now has it. `timing` and `due`, its next run by schedule (UTC), are None
    without one; `started` says that a first run was asked for at once."""

    name: str
    id: UUID
    timing: PollTiming | None
    due: datetime | None
    started: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    applied: tuple[Applied, ...]
    removed: tuple[str, ...]


def store_tag(store_uuid: str) -> str:
    return f"mirrorflow-store:{store_uuid}"


def apply_definitions(
    client: SyncPrefectClient,
    definitions: Iterable[Definition],
    *,
    store_uuid: str,
    entrypoint: str = ENTRYPOINT,
    work_pool: str | None = None,
    first_runs: FirstRuns = "none",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Changes:
    """Make the server hold these deployments, active, and no others of this store.

    A schedule goes on from the last success, so that a restart is no reason to mirror everything
    again. Where that success is older than the interval, or there is none, `first_runs` asks for a
    run at once: of no deployment, of those that are new to the server, or of all that are overdue.
    Raises DeploymentError.
    """
    wanted = list(definitions)
    flow_id, schema = _register_flow(client, entrypoint)
    names = {definition.name for definition in wanted}
    ours = our_deployments(client, store_uuid)
    known = {each.name for each in ours if each.flow_id == flow_id}
    superfluous = [each for each in ours if each.flow_id != flow_id or each.name not in names]
    for deployment in superfluous:
        client.delete_deployment(deployment.id)
    applied = [
        _apply(
            client,
            definition,
            payload={
                "flow_id": flow_id,
                "parameter_openapi_schema": schema,
                "entrypoint": entrypoint,
                "tags": [TAG, store_tag(store_uuid)],
                "work_pool_name": work_pool,
            },
            may_start=first_runs == "overdue" or (first_runs == "new" and definition.name not in known),
            now=now(),
        )
        for definition in wanted
    ]
    return Changes(tuple(applied), tuple(sorted({each.name for each in superfluous} - names)))


def our_deployments(client: SyncPrefectClient, store_uuid: str) -> list[DeploymentResponse]:
    """All deployments that carry this store's tag."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
    from prefect.client.schemas.sorting import DeploymentSort

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[store_tag(store_uuid)]))
    found: list[DeploymentResponse] = []
    while True:
        page = client.read_deployments(
            deployment_filter=ours, limit=_PAGE, offset=len(found), sort=DeploymentSort.NAME_ASC
        )
        found += page
        if len(page) < _PAGE:
            return found


def pause_deployments(client: SyncPrefectClient, store_uuid: str) -> None:
    """Stop the schedules. Prefect then also forgets the runs that it had planned, so that nothing
    waits to be made up for when the mirror comes back: applying the definitions resumes them."""
    for deployment in our_deployments(client, store_uuid):
        client.pause_deployment(deployment.id)


def _register_flow(client: SyncPrefectClient, entrypoint: str) -> tuple[UUID, dict[str, Any]]:
    """The server's id of the flow, and the schema of its parameters (the form in the UI)."""
    from prefect.utilities.callables import parameter_schema

    module, _, attribute = entrypoint.rpartition(".")
    flow = getattr(importlib.import_module(module), attribute)
    schema = parameter_schema(flow).model_dump(exclude_unset=True)
    return client.create_flow_from_name(flow.name), schema


def _apply(
    client: SyncPrefectClient,
    definition: Definition,
    *,
    payload: dict[str, Any],
    may_start: bool,
    now: datetime,
) -> Applied:
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions

    existing = _existing(client, payload["flow_id"], definition.name, payload["tags"])
    last = _last_success(client, existing)
    timing = definition.timing
    overdue = timing is not None and timing.is_overdue(last, now)
    anchor = now if last is None or overdue else last
    pool = {} if payload["work_pool_name"] is None else {"work_pool_name": payload["work_pool_name"]}
    identifier = client.create_deployment(
        **{name: value for name, value in payload.items() if name != "work_pool_name"},
        **pool,
        name=definition.name,
        description=definition.description,
        parameters=dict(definition.parameters),
        schedules=_schedules(timing, anchor),
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        paused=False,
        pull_steps=[],
        enforce_parameter_schema=True,
    )
    start = may_start and overdue and not _is_waiting(client, identifier, now)
    if start:
        client.create_flow_run_from_deployment(identifier, name=f"mirror {definition.name}")
    due = None if timing is None else timing.next_due(anchor, now)
    return Applied(definition.name, identifier, timing, due, started=start)


def _existing(
    client: SyncPrefectClient, flow_id: UUID, name: str, tags: Sequence[str]
) -> DeploymentResponse | None:
    """The deployment of this name, if it is ours. Prefect knows deployments by flow and name only:
    without this a second store on one server would take over the first one's."""
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterName,
        FlowFilter,
        FlowFilterId,
    )
    from prefect.client.schemas.sorting import DeploymentSort

    found = client.read_deployments(
        flow_filter=FlowFilter(id=FlowFilterId(any_=[flow_id])),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
        sort=DeploymentSort.NAME_ASC,
        limit=1,
    )
    if found and not set(tags) <= set(found[0].tags):
        raise DeploymentError(
            f"the Prefect server already has a deployment {name!r} of another mirrorflow store: "
            f"give the registry entry another `name` than {name!r}"
        )
    return found[0] if found else None


def _last_success(client: SyncPrefectClient, deployment: DeploymentResponse | None) -> datetime | None:
    if deployment is None:
        return None
    runs = find_flow_runs(client, [deployment.id], types=["COMPLETED"], limit=1)
    started = runs[0].start_time if runs else None
    # Prefect's own kind of datetime cannot be divided by a timedelta.
    return datetime.fromtimestamp(started.timestamp(), UTC) if started else None


def _is_waiting(client: SyncPrefectClient, deployment_id: UUID, now: datetime) -> bool:
    """Whether a run is due already: late, to be retried, or waiting for its slot."""
    return bool(find_flow_runs(client, [deployment_id], types=["SCHEDULED"], due_before=now, limit=1))


def _schedules(timing: PollTiming | None, anchor: datetime) -> list[DeploymentScheduleCreate]:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    if timing is None:
        return []
    if isinstance(timing, PollSchedule):
        at = CronSchedule(cron=timing.cron, timezone=timing.zone)
        return [DeploymentScheduleCreate(schedule=at, active=True)]
    every = IntervalSchedule(interval=timedelta(seconds=timing.seconds), anchor_date=anchor, timezone="UTC")
    return [DeploymentScheduleCreate(schedule=every, active=True)]
