"""Runs of the deployments of a running `up` (or of a user's own Prefect server), asked for through its API.

For `sync` and `rerun`, and for the notebooks: a run that is created from its deployment can be retried in
the UI, which one that a command executes itself cannot.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.orchestration.deployments import our_deployments
from flows.orchestration.flow_run_query import find_flow_runs
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_POLL = 0.5  # seconds
_CANCEL_WAIT = 15.0  # seconds; a run that is told to stop has 10 of them
_OVERLAP = "Deployment concurrency limit reached."
_FAILED = ("FAILED", "CRASHED")


class RunRefused(MirrorflowError):
    """No run came about; doing it again later may."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Run:
    """A flow run as people speak of it. `state` is Prefect's word ("Completed", "Failed", "Late"...),
    `message` the run's own ("1,198 of 1,200 images, 2 failed"), times unix seconds."""

    id: UUID
    name: str
    registry: str
    parameters: Mapping[str, Any]
    state: str
    message: str
    final: bool
    completed: bool
    started: float | None
    ended: float | None


@dataclass(frozen=True, slots=True)
class ArtifactData:
    """What a run published: `type` is "table", "markdown" or "progress", `data` a JSON text or a number."""

    key: str
    type: str
    description: str
    data: Any


def start_run(
    client: SyncPrefectClient,
    store_uuid: str,
    registry: str,
    *,
    only: Sequence[str] = (),
    name: str | None = None,
) -> Run:
    """Ask for a run of a registry entry; it begins within some seconds. Raises RunRefused."""
    for deployment in our_deployments(client, store_uuid):
        if deployment.name == registry:
            parameters = {**deployment.parameters, "only": list(only) or None}
            created = client.create_flow_run_from_deployment(
                deployment.id, parameters=parameters, name=name or f"mirror {registry}"
            )
            return _run(created)
    raise RunRefused(
        f"the Prefect server at {client.api_url} has no deployment for the registry entry {registry!r}: "
        "`mirrorflow up` or `mirrorflow deploy` makes it"
    )


def await_run(
    client: SyncPrefectClient, run: Run, *, on_change: Callable[[Run], None] = lambda _run: None
) -> Run:
    """Wait for its end, calling `on_change` whenever its state is another one; returns it as it ended.

    Raises RunRefused when another run of the entry was in progress. Ctrl-C is the caller's: `cancel_run`.
    """
    seen: tuple[str, str] | None = None
    while True:
        run = _run(client.read_flow_run(run.id))
        if (run.state, run.message) != seen:
            seen = run.state, run.message
            on_change(run)
        if run.final:
            break
        time.sleep(_POLL)
    if run.message == _OVERLAP:
        raise RunRefused(
            f"a run of {run.registry} is in progress already: wait for it, or cancel it in the UI"
        )
    return run


def cancel_run(client: SyncPrefectClient, run: Run, *, wait: float = _CANCEL_WAIT) -> Run:
    """Ask a run to stop, and give it `wait` seconds to do so; returns it as it then is."""
    from prefect.states import Cancelling

    if run.final:
        return run
    client.set_flow_run_state(run.id, Cancelling())
    deadline = time.monotonic() + wait
    while not (run := _run(client.read_flow_run(run.id))).final and time.monotonic() < deadline:
        time.sleep(_POLL)
    return run


def failed_runs(client: SyncPrefectClient, store_uuid: str, *, limit: int = 20) -> list[Run]:
    """Runs of this store's deployments that failed or crashed, the newest first."""
    ids = [deployment.id for deployment in our_deployments(client, store_uuid)]
    return [_run(found) for found in find_flow_runs(client, ids, types=_FAILED, limit=limit)]


def read_run(client: SyncPrefectClient, run: str) -> Run:
    """The run of this id, as the UI's address shows it. Raises RunRefused when there is none."""
    from prefect.exceptions import ObjectNotFound

    try:
        return _run(client.read_flow_run(UUID(run)))
    except (ValueError, ObjectNotFound):
        raise RunRefused(
            f"the Prefect server at {client.api_url} has no run {run!r}: take the id from the run's page"
        ) from None


def read_artifacts(client: SyncPrefectClient, run: UUID) -> list[ArtifactData]:
    """What a run published, the oldest first, each key once with its newest version."""
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
    )
    from prefect.client.schemas.sorting import ArtifactSort

    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])),
        sort=ArtifactSort.UPDATED_DESC,
        limit=200,
    )
    newest: dict[str, ArtifactData] = {}
    for artifact in reversed(found):
        key = artifact.key or str(artifact.id)
        newest[key] = ArtifactData(key, artifact.type or "", artifact.description or "", artifact.data)
    return list(newest.values())


def _run(found: FlowRun) -> Run:
    state = found.state
    return Run(
        id=found.id,
        name=found.name,
        registry=str(found.parameters.get("registry", "")),
        parameters=dict(found.parameters),
        state=(state.name if state else None) or "",
        message=(state.message if state else None) or "",
        final=state.is_final() if state else False,
        completed=state.is_completed() if state else False,
        started=found.start_time.timestamp() if found.start_time else None,
        ended=found.end_time.timestamp() if found.end_time else None,
    )
