"""How every step behaves as a Prefect task: what it remembers, when it is tried again, what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Completed

from tasks.errors import is_retryable

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task

    from tasks.run import MirrorRun

# The store is the cache: a run that is tried again must look at it and at the upstream, not at an old answer.
NO_REMEMBERING: Final[dict[str, Any]] = {"cache_policy": NO_CACHE, "persist_result": False}


def summary(message: str, *, done: int = 1) -> State[None]:
    """The state that a task run ends in, with one line that the UI shows.

    `done=0` is a step that none of its images reached: the failure is shown where it happened, further up.
    """
    if done:
        return Completed(message=message)
    return Cancelled(name="NotReached", message="nothing to do: an earlier step failed or left it out")


def retry_options(run: MirrorRun) -> dict[str, Any]:
    """For `Task.with_options`: the entry's maxRetries and retryDelay, for what a retry can change."""
    entry = run.entry
    if not entry.max_retries:
        return {}
    return {
        "retries": entry.max_retries,
        "retry_delay_seconds": retry_delays(entry.max_retries, entry.retry_delay or 0, entry.max_retry_delay),
        "retry_condition_fn": _condition(run),
    }


def retry_delays(retries: int, delay: float, most: float | None) -> list[float]:
    """The seconds before each retry: `delay` each time, or doubling up to `most` (zot's maxRetryDelay)."""
    if most is None or most <= delay:
        return [delay] * retries
    return [min(delay * 2**attempt, most) for attempt in range(retries)]


def _condition(run: MirrorRun) -> Callable[[Task[..., Any], TaskRun, State[Any]], bool]:
    def may_help(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
        if run.stop.is_set():
            return False
        try:
            state.result()
        except Exception as error:  # noqa: BLE001 - whatever it was, its type decides
            return is_retryable(error)
        return False

    return may_help
