"""The steps of a run as Prefect tasks, and the engine that submits them. Only flows import this module.

A task is a thin thread in the flow's process: it looks the run up by its key, has the step carried out (here
or in another process), and makes a state of the output. The output goes from task to task in futures, which
is what draws the arrows in Prefect's UI.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from prefect import allow_failure, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.annotations import quote

from tasks.engines.direct_engine import DirectEngine, direct_engine, retry_delays
from tasks.engines.steps import broken
from tasks.run.errors import Unexpected, is_retryable, is_stop
from tasks.run.values import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefect.client.schemas.objects import State, TaskRun
    from prefect.futures import PrefectFuture
    from prefect.tasks import Task

    from tasks.context.mirror_run import MirrorRun
    from tasks.engines.dag import Handle
    from tasks.engines.direct_engine import Call
    from tasks.on_demand.work import WorkStep

STOPPED: Final = "the run was asked to stop"
# The store is the cache: a run that is tried again must look at it and at the upstream, not at an old answer.
NO_REMEMBERING: Final[dict[str, Any]] = {"cache_policy": NO_CACHE, "persist_result": False}


@task(name="list_catalog", task_run_name="catalog of {label}", **NO_REMEMBERING)
def list_catalog(key: str, label: str) -> State[Any]:
    """Which repositories of the upstream do the content rules want?"""
    return _carry_out("list_catalog", key, label)


@task(name="filter_tags", task_run_name="tags of {label}", **NO_REMEMBERING)
def filter_tags(key: str, label: str, repositories: Any, known: Any) -> State[Any]:
    """Apply the rules to the tags, and compare one HEAD of each survivor with the store.

    `known` is the output of the first try: only what found something, or failed, becomes a task run.
    """
    return _carry_out("filter_tags", key, label, repositories, known=known)


@task(name="verify_signature", task_run_name="verify {label}", **NO_REMEMBERING)
def verify_signature(key: str, label: str, images: Any) -> State[Any]:
    """Without a policy everything passes, and the report says "no policy", never "verified"."""
    return _carry_out("verify_signature", key, label, images)


@task(name="convert_manifest", task_run_name="manifests of {label}", **NO_REMEMBERING)
def convert_manifest(key: str, label: str, images: Any) -> State[Any]:
    """Fetch the manifest tree by digest, validate it, choose platforms."""
    return _carry_out("convert_manifest", key, label, images)


@task(name="copy_blob", task_run_name="copy {label}", **NO_REMEMBERING)
def copy_blob(key: str, label: str, blobs: Any) -> State[Any]:
    """Fetch blobs into the store, resuming what an earlier run left; a retry repeats only what failed."""
    return _carry_out("copy_blob", key, label, blobs)


@task(name="publish_image", task_run_name="publish {label}", **NO_REMEMBERING)
def publish_image(key: str, label: str, images: Any, copies: Any) -> State[Any]:
    """Make images visible whose every byte is in the store: children first, the tag last."""
    return _carry_out("publish_image", key, label, images, copies)


@task(name="on_demand", **NO_REMEMBERING)
def run_step(step: WorkStep) -> None:
    """A step of an image that a client asked for. Its name and retries are given where it is submitted."""
    step.body()


_TASKS: Final[dict[str, Task[..., Any]]] = {
    each.name: each
    for each in (list_catalog, filter_tags, verify_signature, convert_manifest, copy_blob, publish_image)
}


@dataclass(slots=True)
class _Running:
    """A run of this process. `tried` has the output of the last try of a task run that is to be retried."""

    run: MirrorRun
    call: Call
    tried: dict[Any, Output[Any]] = field(default_factory=dict)


_RUNS: Final[dict[str, _Running]] = {}  # by key


def _carry_out(step: str, key: str, label: str, *inputs: Any, known: Output[Any] | None = None) -> State[Any]:
    """The state says what failed and has the whole output: the members that passed go on."""
    running, this = _RUNS[key], task_run.id
    values = [_value_of(each) for each in inputs]
    before = running.tried.pop(this, None)
    output = known if known and not before else running.call(step, values, before)
    if output.error is not None and is_stop(output.error):
        return Cancelled(message=STOPPED, data=output)
    if output.error is not None:
        running.tried[this] = output
        return Failed(message=str(output.error), data=output)
    return Completed(message=f"{label}: {output.summary}", data=output)


def _value_of(given: Any) -> Any:
    if isinstance(given, list):
        return [each.value for each in given if isinstance(each, Output)]
    return given.value if isinstance(given, Output) else given


@dataclass(slots=True, eq=False)
class _Handle:
    future: PrefectFuture[Any]
    step: str
    values: tuple[Any, ...]

    def output(self) -> Output[Any]:
        """Also of a task that Prefect ended without an output: then all its members failed."""
        try:
            found = self.future.result(raise_on_failure=False)
        except Exception as error:  # noqa: BLE001 - whatever became of it, the run goes on
            found = error
        if isinstance(found, Output):
            return found
        values = [_value_of(each.output() if isinstance(each, _Handle) else each) for each in self.values]
        return broken(
            self.step, values, Unexpected(found if isinstance(found, BaseException) else TypeError())
        )


@dataclass(slots=True)
class PrefectEngine:
    """Submits the tasks of one run, with the retries of its registry entry; as in `dag.Engine`."""

    key: str
    tasks: dict[str, Task[..., Any]]
    unseen: DirectEngine

    def look(self, step: str, *inputs: Any, done: Callable[[Handle], None]) -> Handle:
        return self.unseen.look(step, *inputs, done=done)

    def submit(
        self,
        step: str,
        label: str,
        *inputs: Any,
        after: Sequence[Handle] = (),
        known: Output[Any] | None = None,
        done: Callable[[Handle], None],
    ) -> Handle:
        """Plain inputs are quoted: Prefect would search them for futures, 175 ms for a list of 3,000."""
        parameters = [_parameter(each) for each in (*inputs, *([known] if known else ()))]
        submitted = self.tasks[step].submit(
            self.key, label, *parameters, wait_for=[_parameter(each) for each in after]
        )
        handle = _Handle(submitted, step, inputs)
        submitted.add_done_callback(lambda _: done(handle))
        return handle


def _parameter(given: Any) -> Any:
    if isinstance(given, _Handle):
        return allow_failure(given.future)
    if isinstance(given, list):
        return [_parameter(each) for each in given]
    return quote(given)


@contextmanager
def prefect_engine(run: MirrorRun, call: Call, *, key: str) -> Iterator[PrefectEngine]:
    """Inside a flow. `key` is the id of its run."""
    _RUNS[key] = _Running(run, call)
    try:
        options = retry_options(run)
        tasks = {name: step.with_options(**options) for name, step in _TASKS.items()}
        with direct_engine(run, call) as unseen:
            yield PrefectEngine(key, tasks, unseen)
    finally:
        del _RUNS[key]


def retry_options(run: MirrorRun) -> dict[str, Any]:
    """For `Task.with_options`: the entry's maxRetries and retryDelay, for what a retry can change."""
    delays = retry_delays(run.entry)
    if not delays:
        return {}
    return {
        "retries": len(delays),
        "retry_delay_seconds": delays,
        "retry_condition_fn": _condition(run),
    }


def _condition(run: MirrorRun) -> Callable[[Task[..., Any], TaskRun, State[Any]], bool]:
    def may_help(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
        error = state.data.error if isinstance(state.data, Output) else state.data
        return not run.stop.is_set() and isinstance(error, BaseException) and is_retryable(error)

    return may_help
