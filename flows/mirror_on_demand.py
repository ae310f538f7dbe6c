"""The flow for cache misses. Its file holds nothing else: Prefect may load it by its path."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.receiver.flow_run_executor import consume

# A step that waits for the one before it, or for its retry, sleeps in its thread.
_RUNNER: Any = ThreadPoolTaskRunner(max_workers=256)  # Any: its type parameter does not fit `flow`


@flow(
    name="mirror_on_demand",
    flow_run_name="on demand",
    task_runner=_RUNNER,
    persist_result=False,
)
def mirror_on_demand(profile: str, feed: str) -> State[None]:
    """Bring in what clients ask for, as long as they do.

    Args:
        profile: Path of the profile file.
        feed: The queue in the receiver's process; `mirrorflow up` starts this flow, nobody else can.
    """
    return consume(profile, feed)
