"""The steps of a run as Prefect tasks: what each remembers, when it is tried again, what it says.

The steps themselves need no Prefect (tasks/pipeline.py). Only flows import this module.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run
from prefect.states import Cancelled, Completed

from tasks.copy_blob import copy_all
from tasks.filter_tags.search import filter_repositories
from tasks.list_catalog import wanted_repositories
from tasks.pipeline import convert_images, publish_images, verify_images
from tasks.run.errors import is_retryable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task

    from tasks.copy_blob import BlobJob
    from tasks.list_catalog import Catalog
    from tasks.on_demand.work import Step
    from tasks.run.context import MirrorRun
    from tasks.run.values import Image, SourceRepository

log = logging.getLogger("mirrorflow.list_catalog")

# The store is the cache: a run that is tried again must look at it and at the upstream, not at an old answer.
NO_REMEMBERING: Final[dict[str, Any]] = {"cache_policy": NO_CACHE, "persist_result": False}


def summary(message: str, *, done: int = 1) -> State[None]:
    """The state that a task run ends in, with one line that the UI shows.

    `done=0` is a step that none of its images reached: the failure is shown where it happened, further up.
    """
    if done:
        return Completed(message=message)
    return Cancelled(name="NotReached", message="nothing to do: an earlier step failed or left it out")


@task(name="list_catalog", task_run_name="catalog of {registry}", **NO_REMEMBERING)
def list_catalog(run: MirrorRun, registry: str) -> Catalog:
    """Which repositories of the upstream do the content rules want?"""
    catalog = wanted_repositories(run)
    tries_left = run.entry.max_retries - (task_run.run_count or 1) + 1
    if catalog.error is not None and is_retryable(catalog.error) and tries_left > 0:
        raise catalog.error  # the last try goes on with the repositories that rules name
    log.info("%s: %d repositories are wanted", registry, len(catalog.repositories))
    return catalog


@task(name="filter_tags", task_run_name="tags of {label}", **NO_REMEMBERING)
def filter_tags(run: MirrorRun, sources: Sequence[SourceRepository], label: str) -> State[None]:
    """Apply the rules to the tags, and compare one HEAD of each survivor with the store."""
    changed = filter_repositories(run, sources)
    return summary(f"{label}: {changed} changed")


@task(name="verify_signature", task_run_name="verify {label}", **NO_REMEMBERING)
def verify_signature(run: MirrorRun, images: Sequence[Image], label: str) -> State[None]:
    """Without a policy everything passes, and the report says "no policy", never "verified"."""
    passed = verify_images(run, images)
    verdicts = sorted({run.ledger.admission_of(image).verdict for image in images})
    return summary(f"{label}: {'; '.join(verdicts)}", done=passed)


@task(name="convert_manifest", task_run_name="manifests of {label}", **NO_REMEMBERING)
def convert_manifest(run: MirrorRun, images: Sequence[Image], label: str) -> State[None]:
    """Fetch the manifest tree by digest, validate it, choose platforms."""
    done = convert_images(run, images)
    return summary(f"{label}: manifests are stored", done=done)


@task(name="copy_blob", task_run_name="copy {label}", **NO_REMEMBERING)
def copy_blob(run: MirrorRun, jobs: Sequence[BlobJob], label: str) -> State[None]:
    """Fetch blobs into the store, resuming what an earlier run left; a retry repeats only what failed."""
    copy_all(run, jobs)
    return summary(f"{label}: {sum(job.blob.size for job in jobs):,} bytes are stored")


@task(name="publish_image", task_run_name="publish {label}", **NO_REMEMBERING)
def publish_image(run: MirrorRun, images: Sequence[Image], label: str) -> State[None]:
    """Make images visible whose every byte is in the store: children first, the tag last."""
    done = publish_images(run, images)
    return summary(f"{label}: published", done=done)


@task(name="on_demand", **NO_REMEMBERING)
def run_step(step: Step) -> None:
    """A step of an image that a client asked for. Its name and retries are given where it is submitted."""
    step.body()


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
