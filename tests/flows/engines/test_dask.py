"""Steps in the workers of a real Dask cluster: processes of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flows.direct_run import run_direct
from flows.lifecycle.stop_signals import StopSignal
from registry_server.store.store import Store
from tests.flows.engines.every_outcome import PROBLEM, by_prefect, by_threads, fill, write
from tests.flows.mirrors import ROOT
from tests.support.waiting import wait_for
from tests.support_misbehaving import Misbehaving, hangs
from tests.tasks.runs import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[[Path], tuple[str, str]]

distributed: Any = pytest.importorskip("distributed", reason="Dask is an extra: mirrorflow[dask]")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        yield found


def with_engine(profile: Path, scheduler: str) -> Path:
    """`scheduler` as Dask gives it."""
    document = json.loads(profile.read_text())
    document["sync"] |= {"processes": 1, "engine": scheduler.replace("tcp://", "dask://")}
    profile.write_text(json.dumps(document))
    return profile


@pytest.mark.parametrize(
    "run", [pytest.param(by_threads, id="without Prefect"), pytest.param(by_prefect, id="Prefect")]
)
def test_the_report_is_that_of_threads(
    prefect_url: str, cluster: Any, tmp_path: Path, upstream: Misbehaving, run: Run
) -> None:
    fill(upstream)
    (tmp_path / "dask").mkdir()
    (tmp_path / "threads").mkdir()
    with_dask = run(with_engine(write(tmp_path / "dask", upstream), cluster.scheduler_address))
    assert with_dask == ("FAILED", "7 of 9 images, 2 failed, 1 left out, " + PROBLEM.format(upstream.host))
    fetched = [seen.path for seen in upstream.requests("GET", "/blobs/")]
    fill(upstream)  # what failed once fails once more
    by_threads(write(tmp_path / "threads", upstream))
    reports = [
        Store.open(tmp_path / each / "store").reports.load_all("up")[-1] for each in ("dask", "threads")
    ]
    rows = [{(row["image"], row["outcome"], row["step"]) for row in each["images"]} for each in reports]
    assert rows[0] == rows[1]
    assert reports[0]["requests"]["GET blob"] == len(fetched), "whichever worker asked"
    stores = [set(visible(Store.open(tmp_path / each / "store"))) for each in ("dask", "threads")]
    assert stores[0] == stores[1]


def test_the_steps_run_in_the_workers_and_leave_no_context_there(
    cluster: Any, tmp_path: Path, upstream: Misbehaving
) -> None:
    for number in range(8):
        upstream.add_image(f"apps/app-{number}", "1", (b"%d" % number,))
    profile = with_engine(write(tmp_path, upstream), cluster.scheduler_address)
    assert run_direct(profile, "up") == ("COMPLETED", "8 of 8 images")
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        transitions = client.run_on_scheduler(
            lambda dask_scheduler: [str(each[0]) for each in dask_scheduler.transition_log]
        )
        assert any(each.startswith("convert_manifest-") for each in transitions)
        left = client.run(open_contexts)
    assert set(left.values()) == {0}


def open_contexts() -> int:
    from flows.orchestration import dask_cluster

    return len(dask_cluster._OPEN)


def test_a_run_that_is_told_to_stop_stops_in_the_workers(
    cluster: Any, tmp_path: Path, upstream: Misbehaving
) -> None:
    layer = upstream.add_image("apps/web", "1", (b"layer",)).layers[0]
    upstream.on(f"/v2/apps/web/blobs/{layer.digest}", hangs)
    profile = with_engine(write(tmp_path, upstream), cluster.scheduler_address)
    profile.write_text(profile.read_text().replace('"maxRetries": 2', '"readTimeout": "3s", "maxRetries": 2'))
    stop, ended = StopSignal(), list[tuple[str, str]]()
    running = threading.Thread(target=lambda: ended.append(run_direct(profile, "up", stop=stop)))
    running.start()
    wait_for(lambda: bool(upstream.requests("GET", "/blobs/")))
    stop.event.set()
    running.join(60)
    assert ended == [("CANCELLED", "stopped: 0 of 1 images are in place")]


def test_workers_that_have_all_ended_fail_the_run_instead_of_holding_it(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    layer = upstream.add_image("apps/web", "1", (b"layer",)).layers[0]
    upstream.on(f"/v2/apps/web/blobs/{layer.digest}", hangs)
    ended = list[tuple[str, str]]()
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        worker = subprocess.Popen(  # without a nanny, which would start another one
            [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-nanny"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
        )
        try:
            cluster.wait_for_workers(1)
            profile = with_engine(write(tmp_path, upstream), cluster.scheduler_address)
            running = threading.Thread(
                target=lambda: ended.append(run_direct(profile, "up", stop=StopSignal()))
            )
            running.start()
            wait_for(lambda: bool(upstream.requests("GET", "/blobs/")))
        finally:
            worker.kill()
            worker.wait()
        running.join(120)
    assert len(ended) == 1, "the run waits for ever"
    [(state, message)] = ended
    assert state == "FAILED"
    assert message.startswith("0 of 1 images, 1 failed")


@pytest.mark.parametrize(
    ("engine", "error"),
    [pytest.param("dask://127.0.0.1:1", "no Dask scheduler answers at tcp://127.0.0.1:1", id="nobody there")],
)
def test_a_cluster_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, upstream: Misbehaving, engine: str, error: str
) -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        state, message = run_direct(with_engine(write(tmp_path, upstream), engine), "up")
    assert state == "FAILED"
    assert error in message


def test_without_dask_a_run_says_what_to_install(tmp_path: Path, upstream: Misbehaving) -> None:
    profile = with_engine(write(tmp_path, upstream), "dask://127.0.0.1:8786")
    code = (
        "import sys; sys.modules['distributed'] = None\n"  # as where it is not installed
        "from flows.direct_run import run_direct; from pathlib import Path\n"
        f"print(run_direct(Path({str(profile)!r}), 'up'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs Dask, which is not installed; install mirrorflow[dask]" in done.stdout, done.stderr
