"""The flow for one registry entry. Its file holds nothing else: Prefect may load it by its path."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.mirroring import mirror_entry

# A Prefect retry sleeps in the thread of its task, so there are many threads; what really bounds the work
# is the pool of transfers (`reqConcurrent`).
_RUNNER: Any = ThreadPoolTaskRunner(max_workers=128)  # Any: its type parameter does not fit `flow`


@flow(
    name="mirror_registry",
    flow_run_name="mirror {registry}",
    task_runner=_RUNNER,
    persist_result=False,
)
def mirror_registry(profile: str, registry: str, only: list[str] | None = None) -> State[None]:
    """Bring everything that a profile wants of one registry into the store.

    Args:
        profile: Path of the profile file.
        registry: Name of the registry entry in it.
        only: Images or repositories to look at, e.g. `library/nginx:1.25`; all if left out.
    """
    return mirror_entry(profile, registry, only or [])
