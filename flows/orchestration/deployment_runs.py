"""Runs of the deployments of a running `up` (or of a user's own Prefect server), asked for through its API.

For `sync` and `rerun`, and for the notebooks: a run that is created from its deployment can be retried in
the UI, which one that a command executes itself cannot.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.entries import part_name, run_name
from flows.orchestration.deployments import our_deployments
from flows.orchestration.flow_run_query import find_flow_runs
from profiles.values.shard import Shard, ShardInvalid
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

    @property
    def shard(self) -> Shard | None:
        """None: it was for all of the registry entry, or for a shard that there is not."""
        text = self.parameters.get("shard")
        with suppress(ShardInvalid):
            return Shard.parse(text) if text else None
        return None

    @property
    def part(self) -> str:
        """The name of its deployment."""
        return part_name(self.registry, self.shard)


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
    shard: Shard | None = None,
    only: Sequence[str] = (),
) -> Run:
    """Ask for a run of a registry entry, or of a shard; it begins within some seconds. Raises RunRefused."""
    part = part_name(registry, shard)
    for deployment in our_deployments(client, store_uuid):
        if deployment.name == part:
            parameters = {**deployment.parameters, "only": list(only) or None}
            created = client.create_flow_run_from_deployment(
                deployment.id, parameters=parameters, name=run_name(part)
            )
            return _run(created)
    raise RunRefused(
        f"the Prefect server at {client.api_url} has no deployment {part!r} for the registry entry "
        f"{registry!r}: `mirrorflow up` or `mirrorflow deploy` makes it; where its number of shards has "
        "changed, `mirrorflow sync` runs all of it"
    )


def await_run(
    client: SyncPrefectClient, run: Run, *, on_change: Callable[[Run], None] = lambda _run: None
) -> Run:
    """`await_runs` of one."""
    [ended] = await_runs(client, [run], on_change=on_change)
    return ended


def await_runs(
    client: SyncPrefectClient,
    runs: Sequence[Run],
    *,
    on_change: Callable[[Run], None] = lambda _run: None,
    on_look: Callable[[Run], None] = lambda _run: None,
) -> list[Run]:
    """Wait for the end of all, calling `on_change` whenever the state of one is another; as they ended.

    `on_look` is called for each run that is under way, at each look.

    Raises RunRefused when another run of a part was in progress. Ctrl-C is the caller's: `cancel_runs`.
    """
    found = {run.id: run for run in runs}
    seen: dict[UUID, tuple[str, str]] = {}
    while True:
        for run in [_run(client.read_flow_run(each)) for each in found if not _has_ended(found[each], seen)]:
            found[run.id] = run
            if seen.get(run.id) != (run.state, run.message):
                seen[run.id] = run.state, run.message
                on_change(run)
            if not run.final:
                on_look(run)
        if all(run.final for run in found.values()):
            break
        time.sleep(_POLL)
    if refused := [run.part for run in found.values() if run.message == _OVERLAP]:
        raise RunRefused(
            f"a run of {', '.join(refused)} is in progress already: wait for it, or cancel it in the UI"
        )
    return list(found.values())


def _has_ended(run: Run, seen: Mapping[UUID, object]) -> bool:
    """And `on_change` was told."""
    return run.final and run.id in seen


def cancel_run(client: SyncPrefectClient, run: Run, *, wait: float = _CANCEL_WAIT) -> Run:
    """`cancel_runs` of one."""
    [cancelled] = cancel_runs(client, [run], wait=wait)
    return cancelled


def cancel_runs(client: SyncPrefectClient, runs: Sequence[Run], *, wait: float = _CANCEL_WAIT) -> list[Run]:
    """Ask all to stop, and give them `wait` seconds together to do so; as they then are."""
    from prefect.states import Cancelling

    now = [_run(client.read_flow_run(run.id)) for run in runs]
    for run in now:
        if not run.final:
            client.set_flow_run_state(run.id, Cancelling())
    deadline = time.monotonic() + wait
    while True:
        now = [run if run.final else _run(client.read_flow_run(run.id)) for run in now]
        if all(run.final for run in now) or time.monotonic() >= deadline:
            return now
        time.sleep(_POLL)


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


def read_progress(client: SyncPrefectClient, run: UUID) -> tuple[float, str] | None:
    """Percent and words, as the run has published them last; None: not yet."""
    found = [each for each in read_artifacts(client, run) if each.type == "progress"]
    return (float(found[-1].data or 0.0), found[-1].description) if found else None


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
