"""Definitions of deployments, and making a Prefect server hold exactly those.

A deployment of ours carries two tags: `mirrorflow`, and one that names the store it belongs to, so
that two mirrors can share a Prefect server. One that is new is made as the profile has it; of one that
exists only that is changed which the profile says (deployment_changes.py). The entry point is a module
path, because a file path makes Prefect copy the working directory of the process that applied the
deployment into that of the process that runs it.

Prefect is imported inside the functions: the process must have its environment first, and it
costs 1.5 s.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from flows.entries import run_name
from flows.orchestration import deployment_changes
from flows.orchestration.deployment_changes import PAUSED_TAG, SCHEDULE_SLUG, LastApplied
from flows.orchestration.deployment_record import read_record, write_record
from flows.orchestration.flow_run_query import find_flow_runs
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule
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
    """What a registry entry, or one shard of it, asks of Prefect. `timing` None: no schedule.

    `pull_steps` is what a worker does before the run, e.g. clone a repository. `given_variables` are job
    variables of a command: they win over those of the profile, and stay when it is applied without them.
    """

    name: str
    description: str
    timing: PollTiming | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    work_queue: str | None = None
    pull_steps: tuple[Mapping[str, Any], ...] = ()
    given_variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Applied:
    """A deployment as the server now has it. `timing` and `due`, its next run by schedule (UTC), are None
    without one; `started` says that a first run was asked for at once, `paused` that a user has paused it
    or its schedule. `work_pool` is the pool whose workers run it."""

    name: str
    id: UUID
    timing: PollTiming | None
    due: datetime | None
    started: bool = False
    paused: bool = False
    work_pool: str | None = None


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
    home: Path,
    entrypoint: str = ENTRYPOINT,
    work_pool: str | None = None,
    first_runs: FirstRuns = "none",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Changes:
    """Make the server hold these deployments, and no others of this store. `home` is the folder in which
    it is remembered what the profile said.

    What users have set on a deployment stays. One that `up` paused at its stop is resumed, one that a
    user paused is not. A schedule goes on from the last success, so that a restart is no reason to mirror
    everything again. Where that success is older than the interval, or there is none, `first_runs` asks
    for a run at once: of no deployment, of those that are new to the server, or of all that are overdue.
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
    shared = {
        "flow_id": flow_id,
        "parameter_openapi_schema": schema,
        "entrypoint": entrypoint,
        "tags": [TAG, store_tag(store_uuid)],
        "work_pool_name": work_pool,
    }
    last = read_record(home)
    applied = [
        _apply(
            client,
            definition,
            shared,
            last=last,
            may_start=first_runs == "overdue" or (first_runs == "new" and definition.name not in known),
            now=now(),
        )
        for definition in wanted
    ]
    saids = zip(applied, wanted, strict=True)
    write_record(home, {each.id: LastApplied(said.tags, said.job_variables) for each, said in saids})
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
    """Stop the schedules of those that run. Prefect then also forgets the runs that it had planned, so that
    nothing waits to be made up for when the mirror comes back: applying the definitions resumes them. A
    tag tells them from those that a user paused; it is set in the same request, so a crash parts them not.
    Those of a work pool go on: its workers run them.
    """
    from prefect.client.schemas.actions import DeploymentUpdate

    for deployment in our_deployments(client, store_uuid):
        if not deployment.paused and deployment.work_pool_name is None:
            tags = deployment_changes.merge_tags(deployment.tags, (), (PAUSED_TAG,))
            client.update_deployment(deployment.id, DeploymentUpdate(paused=True, tags=tags))


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
    shared: Mapping[str, Any],
    *,
    last: Mapping[UUID, LastApplied],
    may_start: bool,
    now: datetime,
) -> Applied:
    existing = _existing(client, shared["flow_id"], definition.name, shared["tags"])
    timing = definition.timing
    schedule = deployment_changes.our_schedule(existing.schedules, timing) if existing else None
    stopped = existing is not None and deployment_changes.is_paused_by_user(existing)
    stopped = stopped or (schedule is not None and not schedule.active)
    success = _last_success(client, existing)
    overdue = timing is not None and timing.is_overdue(success, now)
    may_start = may_start and overdue and not stopped
    unchanged = None if may_start else deployment_changes.live_anchor(schedule, timing)
    anchor = unchanged or now if success is None or overdue else success
    identifier = _write(client, existing, _payload(definition, shared), last)
    _write_schedule(client, identifier, schedule, timing, anchor)
    start = may_start and not _is_waiting(client, identifier, now)
    if start:
        client.create_flow_run_from_deployment(identifier, name=run_name(definition.name))
    due = None if timing is None or stopped else timing.next_due(anchor, now)
    pool = shared["work_pool_name"] or (existing.work_pool_name if existing else None)
    return Applied(definition.name, identifier, timing, due, started=start, paused=stopped, work_pool=pool)


def _payload(definition: Definition, shared: Mapping[str, Any]) -> dict[str, Any]:
    """What the profile says of a deployment, by Prefect's names."""
    return {
        **shared,
        "tags": [*shared["tags"], *definition.tags],
        "name": definition.name,
        "description": definition.description,
        "parameters": dict(definition.parameters),
        "job_variables": all_variables(definition),
        "work_queue_name": definition.work_queue,
        "pull_steps": [dict(step) for step in definition.pull_steps],
        "parameter_openapi_schema": deployment_changes.form_of(
            shared["parameter_openapi_schema"], definition.parameters
        ),
    }


def all_variables(definition: Definition) -> dict[str, Any]:
    """The job variables of the profile and those of the command; sections are merged."""
    given = definition.given_variables
    return deployment_changes.merge_variables(definition.job_variables, {}, given) | {
        name: value for name, value in definition.job_variables.items() if name not in given
    }


def _write(
    client: SyncPrefectClient,
    existing: DeploymentResponse | None,
    payload: dict[str, Any],
    last: Mapping[UUID, LastApplied],
) -> UUID:
    """Make the deployment, or change what differs of it."""
    if existing is None:
        return _create(client, payload)
    from prefect.client.schemas.actions import DeploymentUpdate

    before = last.get(existing.id, LastApplied())
    if changed := deployment_changes.changed_fields(existing, payload, before):
        client.update_deployment(existing.id, DeploymentUpdate(**changed))
    return existing.id


def _create(client: SyncPrefectClient, payload: dict[str, Any]) -> UUID:
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions

    if payload["work_pool_name"] is None:  # without a pool, the queue would be one of Prefect's old agents
        payload = payload | {"work_queue_name": None}
    return client.create_deployment(
        **payload,
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        paused=False,
        enforce_parameter_schema=True,
    )


def _write_schedule(
    client: SyncPrefectClient,
    identifier: UUID,
    live: DeploymentSchedule | None,
    timing: PollTiming | None,
    anchor: datetime,
) -> None:
    """Ours alone. Each has a request of its own, because Prefect replaces all of a deployment otherwise."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    if timing is None:
        if live is not None:
            client.delete_deployment_schedule(identifier, live.id)
        return
    wanted = deployment_changes.prefect_schedule(timing, anchor)
    if live is None:
        made = DeploymentScheduleCreate(schedule=wanted, active=True, slug=SCHEDULE_SLUG)
        client.create_deployment_schedules(identifier, [made])
    elif live.slug is None or not deployment_changes.has_rhythm(live, timing, anchor):
        client.update_deployment_schedule(
            identifier,
            live.id,
            schedule=wanted,
            parameters=live.parameters,  # an update without them clears them
            slug=SCHEDULE_SLUG,
        )


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
    return deployment_changes.plain_time(started) if started else None


def _is_waiting(client: SyncPrefectClient, deployment_id: UUID, now: datetime) -> bool:
    """Whether a run is due already: late, to be retried, or waiting for its slot."""
    return bool(find_flow_runs(client, [deployment_id], types=["SCHEDULED"], due_before=now, limit=1))
