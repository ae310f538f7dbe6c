"""What a crash, or a day switched off, leaves on the Prefect server, and how `up` clears it away.

- Runs that say Running, Pending or Cancelling although the process that ran them is gone.
- Their concurrency slots: each holds its deployment's only slot until a lease ends (300 s), and for
  ever when the server was killed too, because leases live in its memory. A run that is forced into a
  final state gives its slot back; a slot that still counts as taken afterwards is reset.
- Runs that were due in the meantime: one of them is enough.

Only for who holds the store's claim: nobody else then runs flows of these deployments. Those of a work pool
are left alone: workers run them, on whatever host, and automations look after them
(work_pools/crash_detection.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.orchestration.deployments import our_deployments
from flows.orchestration.flow_run_query import find_flow_runs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

ON_DEMAND = "mirror_on_demand"  # the name of the flow
GONE = "the process ended without reporting a state"
_UNFINISHED = ("RUNNING", "PENDING", "CANCELLING")
_WAITING = ("Late", "AwaitingConcurrencySlot")


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """How many runs were marked as crashed, how many late ones were dropped, slots given back."""

    crashed: int = 0
    dropped: int = 0
    slots: int = 0

    def __bool__(self) -> bool:
        return bool(self.crashed or self.dropped or self.slots)


def clear_leftovers(client: SyncPrefectClient, store_uuid: str) -> CleanupResult:
    """Mend what is left over of this store's deployments; safe to repeat."""
    deployments = [each for each in our_deployments(client, store_uuid) if each.work_pool_name is None]
    if not deployments:
        return CleanupResult()
    ids = [deployment.id for deployment in deployments]
    return CleanupResult(
        crashed=_mark_crashed(client, ids),
        dropped=_drop_late(client, ids),
        slots=sum(_free_slot(client, deployment) for deployment in deployments),
    )


def clear_on_demand(client: SyncPrefectClient, name: str) -> int:
    """End the runs that the receiver of this name left Running when it was killed; how many.

    Only for the receiver itself, before it has opened any. A store may have several receivers.
    """
    found = find_flow_runs(client, flow=ON_DEMAND, types=_UNFINISHED)
    # By a parameter, and not by a tag: task runs inherit tags, and ask the server for a slot of each.
    ours = [run for run in found if str(run.parameters.get("feed", "")).startswith(f"{name}/")]
    return _crash(client, ours)


def superseded_runs(waiting: Iterable[FlowRun]) -> list[FlowRun]:
    """All but the newest waiting run of each deployment."""
    newest_first = sorted(
        waiting, key=lambda run: (run.expected_start_time is not None, run.expected_start_time)
    )
    newest = {run.deployment_id: run.id for run in newest_first}
    return [run for run in newest_first if newest[run.deployment_id] != run.id]


def _mark_crashed(client: SyncPrefectClient, deployments: list[UUID]) -> int:
    return _crash(client, find_flow_runs(client, deployments, types=_UNFINISHED))


def _crash(client: SyncPrefectClient, unfinished: list[FlowRun]) -> int:
    from prefect.states import Crashed

    for run in unfinished:
        client.set_flow_run_state(run.id, Crashed(message=GONE), force=True)
    return len(unfinished)


def _drop_late(client: SyncPrefectClient, deployments: list[UUID]) -> int:
    dropped = superseded_runs(find_flow_runs(client, deployments, names=_WAITING))
    for run in dropped:
        client.delete_flow_run(run.id)
    return len(dropped)


def _free_slot(client: SyncPrefectClient, deployment: DeploymentResponse) -> int:
    """The deployment is read again: forcing its runs into a final state has given slots back."""
    limit = client.read_deployment(deployment.id).global_concurrency_limit
    if limit is None or not limit.active_slots:
        return 0
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=0))
    return limit.active_slots
