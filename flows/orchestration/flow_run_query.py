"""Asking a Prefect server for flow runs, in one place: its client leaves out defaults that the server
then insists on (`sort`, `limit`), and hands out 200 at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_PAGE = 200


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
