"""Asking a Prefect server for flow runs, in one place, and naming those that it plans.

Its client leaves out defaults that the server then insists on (`sort`, `limit`), and hands out 200 at a time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from flows.entries import run_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_PAGE = 200
_RANDOM_NAME: Final = re.compile(r"[a-z]+-[a-z]+")


def find_flow_runs(
    client: SyncPrefectClient,
    deployments: Sequence[UUID] = (),
    *,
    flow: str = "",
    types: Sequence[str] = (),
    names: Sequence[str] = (),
    due_before: datetime | None = None,
    limit: int | None = None,
) -> list[FlowRun]:
    """Runs of these deployments, or of the flow of this name, the newest start first.

    `types` and `names` are those of states ("FAILED"; "Late"), empty: any. `due_before` keeps what
    is scheduled for an earlier moment. `limit` None: all of them.
    """
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterNextScheduledStartTime,
        FlowRunFilterState,
        FlowRunFilterStateName,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=list(deployments)) if deployments else None,
        state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=[StateType(name) for name in types]) if types else None,
            name=FlowRunFilterStateName(any_=list(names)) if names else None,
        ),
        next_scheduled_start_time=(
            FlowRunFilterNextScheduledStartTime(before_=due_before) if due_before else None
        ),
    )
    found: list[FlowRun] = []
    named = FlowFilter(name=FlowFilterName(any_=[flow])) if flow else None
    while (deployments or flow) and (limit is None or len(found) < limit):
        size = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = client.read_flow_runs(
            flow_filter=named,
            flow_run_filter=wanted,
            sort=FlowRunSort.START_TIME_DESC,
            limit=size,
            offset=len(found),
        )
        found += page
        if len(page) < size:
            break
    return found


def name_planned_runs(client: SyncPrefectClient, registries: Mapping[UUID, str]) -> int:
    """Name the planned runs of these deployments after their registry entries; how many there were.

    Prefect's scheduler gives each a random name of two words, which the UI would show until the run starts. A
    run that a user has asked for, or has named, keeps its name.
    """
    named = 0
    for run in find_flow_runs(client, list(registries), types=["SCHEDULED"]):
        name = run_name(registries[run.deployment_id]) if run.deployment_id else run.name
        if run.auto_scheduled and run.name != name and _RANDOM_NAME.fullmatch(run.name):
            client.update_flow_run(run.id, name=name)
            named += 1
    return named
