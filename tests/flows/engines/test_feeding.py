"""Work on demand becomes task runs of an open flow run, and never waits for Prefect."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from flows.orchestration.crash_cleanup import clear_on_demand
from flows.orchestration.prefect_server import drain_prefect_queues
from flows.receiver.flow_run_executor import FlowRunExecutor
from profiles.model.registry_entry import RegistryEntry
from tasks.on_demand.work import Answering, Work, WorkStep
from tasks.upstream.errors import UpstreamUnavailable, Where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect.client.orchestration import SyncPrefectClient

    from tasks.context.mirror_run import MirrorRun

# Prefect's own client and its threads leave sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class OfRun:
    """As much of a run as retries need."""

    entry: RegistryEntry
    stop: threading.Event = field(default_factory=threading.Event)


def run_of(**entry: Any) -> MirrorRun:
    return cast("MirrorRun", OfRun(RegistryEntry.model_validate({"urls": ["https://r"], **entry})))


def work(*bodies: Callable[[], object], **entry: Any) -> Work:
    steps = tuple(WorkStep(f"step_{number}", body) for number, body in enumerate(bodies))
    return Work(run_of(**entry), "library/nginx:1.25", steps)


@pytest.fixture
def executors() -> Iterator[list[FlowRunExecutor]]:
    opened: list[FlowRunExecutor] = []
    yield opened
    for each in opened:
        each.close()


def no_run(_feed: str) -> None:
    raise RuntimeError("Failed to reach API")


def test_without_a_run_the_work_is_done_all_the_same(executors: list[FlowRunExecutor]) -> None:
    executors.append(FlowRunExecutor(no_run))
    done = [threading.Event() for _ in range(3)]
    for each in done:
        executors[0].submit(work(each.set))
    assert all(each.wait(10) for each in done)


def test_a_run_that_does_not_begin_is_not_waited_for_and_nothing_is_done_twice(
    executors: list[FlowRunExecutor],
) -> None:
    never = threading.Event()
    executors.append(FlowRunExecutor(lambda _feed: never.wait(20)))
    done = threading.Event()
    counted: list[int] = []

    def body() -> None:
        counted.append(1)
        done.set()

    executors[0].submit(work(body))
    assert done.wait(10)
    never.set()
    assert counted == [1]


def test_without_a_run_a_step_that_fails_does_not_stop_those_behind_it(
    executors: list[FlowRunExecutor],
) -> None:
    executors.append(FlowRunExecutor(no_run))
    behind = threading.Event()
    executors[0].submit(work(fails, behind.set))
    assert behind.wait(10)


def fails() -> None:
    raise UpstreamUnavailable(Where("r"), "503")


def test_steps_are_task_runs_of_one_flow_run_and_a_retry_goes_on_behind_the_first_answer(
    executors: list[FlowRunExecutor], client: SyncPrefectClient
) -> None:
    from flows.mirror_on_demand import mirror_on_demand

    states: list[Any] = []
    settings = copy_context()  # of this test: a thread does not inherit them

    def open_run(feed: str) -> None:
        states.append(settings.copy().run(mirror_on_demand, "profile.yaml", feed, return_state=True))

    executors.append(FlowRunExecutor(open_run, idle=0.1))
    opened, tried, finished = threading.Event(), list[int](), threading.Event()

    def flaky() -> str:
        tried.append(1)
        if len(tried) < 2:
            raise UpstreamUnavailable(Where("r"), "503")
        return "there"

    answering = Answering(flaky)
    executors[0].submit(work(opened.set))
    assert opened.wait(10)
    for _ in range(200):
        if executors[0].is_open:
            break
        time.sleep(0.05)
    executors[0].submit(work(answering, finished.set, maxRetries=1, retryDelay="0s"))
    with pytest.raises(UpstreamUnavailable):
        answering.first.result(10)
    assert finished.wait(20)
    assert len(tried) == 2
    for thread in executors[0].threads:
        thread.join(30)
    drain_prefect_queues()
    assert [state.name for state in states] == ["Completed"]
    assert states[0].message.endswith("on demand")


def test_runs_that_a_killed_receiver_left_running_are_ended(client: SyncPrefectClient) -> None:
    from prefect.states import Running

    from flows.mirror_on_demand import mirror_on_demand

    ours, others = (
        client.create_flow_run(
            mirror_on_demand, parameters={"profile": "profile.yaml", "feed": f"{uuid}/gone"}, state=Running()
        )
        for uuid in ("ours", "others")
    )
    assert clear_on_demand(client, "ours") == 1
    assert clear_on_demand(client, "ours") == 0
    states = [client.read_flow_run(run.id).state for run in (ours, others)]
    assert [state.name for state in states if state] == ["Crashed", "Running"]


def test_the_flow_by_itself_says_that_it_is_fed_by_up(client: SyncPrefectClient) -> None:
    from flows.mirror_on_demand import mirror_on_demand

    state: Any = mirror_on_demand("profile.yaml", "nobody", return_state=True)
    assert state.is_failed()
    assert "mirrorflow up" in state.message
