"""A run on a worker that is cancelled as the UI does it."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from flows.lifecycle.engine_process import forced_exit_code, is_engine_process, is_worth_logging
from tests.flows.orchestration.work_pools.worker import Worker, eventually
from tests.support.command_line import mirrorflow
from tests.support_misbehaving import Misbehaving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import TaskRun

    from tests.support_misbehaving import Exchange

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LAYER = os.urandom(2_000_000)


def trickles(exchange: Exchange) -> None:
    """20 kB every tenth of a second."""
    exchange.answer(200, b"", {"Content-Length": str(len(LAYER))})
    for start in range(0, len(LAYER), 20_000):
        if exchange.upstream.closing.wait(0.1):
            return
        exchange.write(LAYER[start : start + 20_000])


def hangs(exchange: Exchange) -> None:
    exchange.hang()


@pytest.fixture
def worker(client: SyncPrefectClient, prefect_url: str, tmp_path: Path) -> Iterator[Worker]:
    with Worker(client, prefect_url, tmp_path) as worker:
        yield worker


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        yield found


@pytest.mark.parametrize(
    "transfer",
    [
        pytest.param(trickles, id="transfers go on"),
        pytest.param(hangs, id="the upstream hangs: steps do not end, and the process exits without them"),
    ],
)
def test_a_run_that_is_cancelled_on_a_worker_ends_cancelled_and_without_errors(
    worker: Worker,
    client: SyncPrefectClient,
    upstream: Misbehaving,
    tmp_path: Path,
    transfer: Callable[[Exchange], None],
) -> None:
    from prefect.states import Cancelling

    for name in ("apps/one", "apps/two"):
        layer = upstream.add_image(name, "1", (LAYER, name.encode())).layers[0]
        upstream.on(f"/v2/{name}/blobs/{layer.digest}", transfer)
    name = deployed(worker, tmp_path, upstream)
    run = worker.start_run(f"mirror_registry/{name}")
    eventually(lambda: bool(upstream.requests("GET", "/blobs/")), worker)
    client.set_flow_run_state(run.id, Cancelling())

    ended = worker.await_state(run.id, "Cancelled", "Failed", "Crashed")
    assert ended.state is not None
    assert (ended.state_name, ended.state.message) == ("Cancelled", "stopped: 0 of 2 images are in place")
    eventually(lambda: all(is_final(each) for each in task_runs(client, run.id)), worker)
    states = {each.state_name for each in task_runs(client, run.id)}
    assert states == {"Completed", "Cancelled"}, "a task run that was stopped has not failed"
    for word in ("Traceback", "unexpected exception", "ERROR", "status code"):
        assert word not in worker.log


def deployed(worker: Worker, folder: Path, upstream: Misbehaving) -> str:
    """The name of the entry, which is its deployment's."""
    name = f"up-{uuid4().hex[:6]}"
    entry: dict[str, Any] = {"name": name, "urls": [f"http://{upstream.host}"], "content": [{"prefix": "**"}]}
    entry |= {"maxRetries": 2, "retryDelay": "1s"}
    profile = folder / "profile.json"
    profile.write_text(
        json.dumps({"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}}), encoding="utf-8"
    )
    done = mirrorflow("deploy", profile, "--work-pool", worker.pool, **worker.environment)
    assert done.returncode == 0, done.stderr
    return name


def task_runs(client: SyncPrefectClient, run: UUID) -> list[TaskRun]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    return client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))


def is_final(task_run: TaskRun) -> bool:
    return task_run.state is not None and task_run.state.is_final()


class FailedRun(Exception):
    """Named as Prefect's."""


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        pytest.param(FailedRun("0 of 1 images"), False, id="a state that the flow returned"),
        pytest.param(ValueError("a bug"), True, id="anything else"),
        pytest.param(None, True, id="no error"),
    ],
)
def test_only_the_traceback_of_a_returned_state_is_left_out(error: Exception | None, *, worth: bool) -> None:
    raised: Any = (type(error), error, None) if error else None
    record = logging.LogRecord("x", logging.ERROR, "", 1, "Engine execution exited", (), raised)
    assert is_worth_logging(record) is worth
    assert record.levelno == logging.ERROR


def test_a_cancelled_task_run_is_no_error_in_the_log() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 1, "Finished in state %s", ("Cancelled('x')",), None)
    assert is_worth_logging(record)
    assert (record.levelno, record.levelname) == (logging.INFO, "INFO")


def test_who_has_started_a_run_is_told_of_a_crash_unless_the_server_knows_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not is_engine_process({})
    assert forced_exit_code(is_known=True) == 130, "a command that a user has interrupted"
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid4()))
    assert is_engine_process()
    assert forced_exit_code(is_known=True) == 0
    assert forced_exit_code(is_known=False) == 130
