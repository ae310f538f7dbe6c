"""The same DAG on threads, on processes, through Prefect and without: the report is the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flows.direct_run import run_direct
from flows.mirroring import mirror_entry
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.flows.engines.every_outcome import PROBLEM, by_prefect, by_threads, fill, write
from tests.support.waiting import wait_for
from tests.support_behaviours import hangs
from tests.support_misbehaving import Misbehaving, well_behaved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support_misbehaving import Exchange

    Run = Callable[[Path], tuple[str, str]]

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
MIRRORFLOW = [sys.executable, "-c", "from flows.cli import main; main()"]


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        yield found


def write_entries(folder: Path, upstream: Misbehaving, *names: str, **rule: Any) -> Path:
    """An entry for each repository."""
    entries = [
        {"name": name, "urls": [f"http://{upstream.host}"], "content": [{"prefix": name, **rule}]}
        for name in names
    ]
    profile = folder / "profile.json"
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": entries}}
    profile.write_text(json.dumps(document))
    return profile


ENGINES = [
    pytest.param(by_threads, 1, id="threads"),
    pytest.param(by_threads, 2, id="processes"),
    pytest.param(by_prefect, 1, id="Prefect"),
    pytest.param(by_prefect, 2, id="Prefect and processes"),
]


@pytest.mark.parametrize(("run", "processes"), ENGINES)
def test_the_report_is_the_same_whichever_engine_runs_the_steps(
    prefect_url: str,
    tmp_path: Path,
    upstream: Misbehaving,
    run: Run,
    processes: int,
) -> None:
    fill(upstream)
    state = run(write(tmp_path, upstream, processes))
    assert state == ("FAILED", "7 of 9 images, 2 failed, 1 left out, " + PROBLEM.format(upstream.host))
    report = Store.open(tmp_path / "store").reports.load_all("up")[-1]
    rows = {row["image"]: (row["outcome"], row["step"]) for row in report["images"]}
    assert rows == {
        **{f"apps/web{number % 2}:1.{number}": ("copied", "publish_image") for number in range(6)},
        "apps/slow:1": ("copied", "publish_image"),
        "apps/sick:1": ("failed", "publish_image"),
        "apps/web0:broken": ("failed", "convert_manifest"),
        "apps/web1:old": ("left out", "filter_tags"),
    }
    blobs = [seen.path for seen in upstream.requests("GET", "/blobs/")]
    refused = [path for path in blobs if "apps/sick" in path or "apps/slow" in path]
    once = [path.rpartition("/")[2] for path in blobs if path not in refused]
    assert len(once) == len(set(once)), "each digest is fetched once a run"
    assert report["requests"]["GET blob"] == len(blobs), "whichever process asked"
    assert report["totals"]["bytesMoved"] > 0


@pytest.mark.parametrize(("run", "processes"), ENGINES)
def test_a_second_run_asks_for_one_head_a_tag(
    prefect_url: str, tmp_path: Path, upstream: Misbehaving, run: Run, processes: int
) -> None:
    for number in range(6):
        upstream.add_image(f"apps/web{number % 2}", f"1.{number}", (b"base", b"layer %d" % number))
    profile = write(tmp_path, upstream, processes)
    assert run(profile) == ("COMPLETED", "6 of 6 images")
    upstream.seen.clear()
    assert run(profile) == ("COMPLETED", "6 of 6 images, nothing new")
    assert len(upstream.requests("HEAD", "/manifests/")) == 6
    assert upstream.requests("GET", "/manifests/") == []


def test_processes_run_an_entry_that_names_this_mirror_itself(tmp_path: Path, upstream: Misbehaving) -> None:
    """The members of a ring have one profile, and each leaves its own address out."""
    upstream.add_image("apps/web", "1", (b"layer",))
    profile = write(tmp_path, upstream, 2)
    document = json.loads(profile.read_text())
    document["http"] = {"port": 5055}
    document["sync"]["registries"][0]["urls"].append("http://127.0.0.1:5055")
    profile.write_text(json.dumps(document))
    assert run_direct(profile, "up") == ("COMPLETED", "1 of 1 images")


def test_a_worker_process_that_is_killed_fails_its_images_and_ends_the_run(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """The next run does what is left."""
    layer = upstream.add_image("apps/web", "1", (b"layer",)).layers[0]
    upstream.on(f"/v2/apps/web/blobs/{layer.digest}", hangs)
    profile = write(tmp_path, upstream, 2)
    command = [*MIRRORFLOW, "sync", str(profile)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: bool(upstream.requests("GET", "/blobs/")))
        for child in children(process.pid):
            subprocess.run(["kill", "-9", str(child)], check=False)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1, said
    assert "0 of 1 images, 1 failed" in said
    assert "a process that carries out steps ended unexpectedly" in said
    assert "a bug in mirrorflow" not in said, said
    upstream.on(f"/v2/apps/web/blobs/{layer.digest}", well_behaved)
    assert run_direct(profile, "up") == ("COMPLETED", "1 of 1 images")


def test_registry_entries_run_side_by_side(tmp_path: Path, upstream: Misbehaving) -> None:
    """Each waits for the other's first request."""
    asked = threading.Barrier(2)

    def waits(exchange: Exchange) -> None:
        asked.wait(20)
        well_behaved(exchange)

    names = ["one", "two"]
    for name in names:
        upstream.add_image(name, "1")
        upstream.on(f"/v2/{name}/tags/list", waits)
    profile = write_entries(tmp_path, upstream, *names)
    done = subprocess.run([*MIRRORFLOW, "sync", str(profile)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if "images" in line) == [
        "one: 1 of 1 images",
        "two: 1 of 1 images",
    ]


def test_of_two_entries_side_by_side_the_first_keeps_a_tag_that_both_bring(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """Neither finds the tag when it looks; the second has its blobs when the first has ended."""
    first = upstream.add_image("one", "1", (b"one",))
    layer = upstream.add_image("two", "1", (b"two",)).layers[0]

    def waits(exchange: Exchange) -> None:
        wait_for(lambda: bool(Store.open(tmp_path / "store").reports.load_all("one")))
        well_behaved(exchange)

    upstream.on(f"/v2/two/blobs/{layer.digest}", waits)
    profile = write_entries(tmp_path, upstream, "one", "two", destination="/web", stripPrefix=True)
    done = subprocess.run([*MIRRORFLOW, "sync", str(profile)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = Store.open(tmp_path / "store").repository(RepositoryName("web")).tag(Tag("1"))
    assert record is not None
    assert record.digest == first.manifest.digest
    [left] = Store.open(tmp_path / "store").reports.load_all("two")[-1]["images"]
    assert left["outcome"] == "left out"
    assert left["reason"].startswith("is here from one: one, which the profile puts under this name as well")


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_ends_a_run_without_a_server_and_keeps_what_came(
    tmp_path: Path, upstream: Misbehaving, processes: int
) -> None:
    layer = upstream.add_image("apps/web", "1", (b"layer",)).layers[0]
    upstream.on(f"/v2/apps/web/blobs/{layer.digest}", hangs)
    command = [*MIRRORFLOW, "sync", str(write(tmp_path, upstream, processes))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: bool(upstream.requests("GET", "/blobs/")))
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "stopped: 0 of 1 images are in place" in said
    assert "Traceback" not in said


def test_a_forced_stop_leaves_the_reports_of_entries_that_had_ended(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """`sync` runs entries side by side: one is complete, and another one does not end when asked to."""
    upstream.add_image("one", "1")
    layer = upstream.add_image("two", "1", (b"another layer",)).layers[0]
    upstream.on(f"/v2/two/blobs/{layer.digest}", hangs)
    command = [*MIRRORFLOW, "sync", str(write_entries(tmp_path, upstream, "one", "two"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: bool(upstream.requests("GET", "/two/blobs/")))
        wait_for(lambda: bool(Store.open(tmp_path / "store").reports.load_all("one")))
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    reports = Store.open(tmp_path / "store").reports.load_all()
    assert sorted((each["registry"], each["state"]) for each in reports) == [
        ("one", "complete"),
        ("two", "stopped"),
    ]


def children(pid: int) -> list[int]:
    """The processes that carry out steps, and what helps them."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for path in found for each in path.read_text().split()]


def test_a_bug_of_an_engine_ends_the_run_with_a_report(tmp_path: Path, upstream: Misbehaving) -> None:
    class Broken:
        run_id = "1"

        def submit(self, *_arguments: Any, **_options: Any) -> Any:
            raise KeyError("oops")

        look = submit

        def progress(self, percent: float, words: str) -> None: ...

        def publish(self, report: Any) -> None: ...

        def not_saved(self, reason: str) -> None: ...

        def abandoned(self, report: Any) -> bool:
            raise NotImplementedError

    broken = Broken()
    report = mirror_entry(
        write(tmp_path, upstream), "up", (), engine=lambda _run, _call: nullcontext(broken), display=broken
    )
    assert not report.complete
    assert report.problems == ("unexpected KeyError: 'oops' (a bug in mirrorflow; please report it)",)
    assert Store.open(tmp_path / "store").reports.load_all("up")[-1]["state"] == "failed"
