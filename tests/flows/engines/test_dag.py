"""The flow in the real engine: the graph that the UI draws, retries, states, artifacts, task runs."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest

from flows.orchestration.deployment_runs import read_progress
from registry_server.oci.media_types import OCI_MANIFEST
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.support_misbehaving import Misbehaving, answers, well_behaved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefect.client.schemas.objects import State

pytestmark = pytest.mark.filterwarnings(
    # Prefect leaves these to the garbage collector; its own tests ignore both.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        yield found


@pytest.fixture
def api(prefect_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=prefect_url, timeout=60) as client:
        yield client


def run_flow(
    folder: Path,
    upstream: Misbehaving,
    *,
    more: str = "",
    content: str = "[{prefix: '**'}]",
    only: list[str] | None = None,
) -> State[Any]:
    from flows.mirror_registry import mirror_registry

    profile = folder / "profile.yaml"
    profile.write_text(
        "storage: {rootDirectory: store}\n"
        f"sync: {{registries: [{{name: up, urls: ['http://{upstream.host}'], {more} "
        f"content: {content}}}]}}"
    )
    state: State[Any] = mirror_registry(str(profile), "up", only, return_state=True)
    from flows.orchestration.prefect_server import drain_prefect_queues

    drain_prefect_queues()
    return state


def task_runs(api: httpx.Client, state: State[Any], *, at_least: int = 1) -> list[dict[str, Any]]:
    """All task runs of the run, once the server has recorded as many as are to be expected."""
    query = {"flow_runs": {"id": {"any_": [run_id(state)]}}, "limit": 200}
    for _ in range(200):
        found: list[dict[str, Any]] = api.post("/task_runs/filter", json=query).json()
        if len(found) >= at_least and all(run["state_type"] in _FINAL for run in found):
            return found
    raise AssertionError(f"only {len(found)} task runs were recorded in the end")


_FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def run_id(state: State[Any]) -> str:
    return str(state.state_details.flow_run_id)


def test_the_graph_is_the_dag(upstream: Misbehaving, api: httpx.Client, tmp_path: Path) -> None:
    upstream.add_image("library/nginx", "1.25", (b"a layer",))
    state = run_flow(tmp_path, upstream)
    assert state.is_completed()
    assert state.message == "1 of 1 images"
    names = {run["id"]: run["name"] for run in task_runs(api, state, at_least=6)}
    graph = api.get(f"/flow_runs/{run_id(state)}/graph-v2").json()
    edges = {
        (names[parent["id"]], names[node["id"]]) for _, node in graph["nodes"] for parent in node["parents"]
    }
    copy = next(name for name in names.values() if name.startswith("copy "))
    assert copy == "copy library/nginx: 2 blobs, 0.0 MB"
    assert edges == {
        ("catalog of up", "tags of library/nginx"),
        ("tags of library/nginx", "verify library/nginx:1.25"),
        ("verify library/nginx:1.25", "manifests of library/nginx:1.25"),
        ("manifests of library/nginx:1.25", copy),
        ("manifests of library/nginx:1.25", "publish library/nginx:1.25"),
        (copy, "publish library/nginx:1.25"),
    }


def test_what_a_retry_can_change_is_tried_again(
    upstream: Misbehaving, api: httpx.Client, tmp_path: Path
) -> None:
    image = upstream.add_image("app", "1", (b"a layer",))
    upstream.on(f"/v2/app/blobs/{image.layers[0].digest}", answers(500), well_behaved)
    state = run_flow(tmp_path, upstream, more="maxRetries: 2, retryDelay: 0.1s,")
    assert state.is_completed(), state.message
    tries = {run["name"].split()[0]: run["run_count"] for run in task_runs(api, state, at_least=6)}
    assert tries["copy"] == 2
    assert tries["publish"] == 1


def test_a_head_and_a_catalog_that_fail_for_what_may_pass_are_tried_again(
    upstream: Misbehaving, api: httpx.Client, tmp_path: Path
) -> None:
    for tag in ("1", "2"):
        upstream.add_image("app", tag)
    busy = answers(503, Retry_After="7200")
    upstream.on("/v2/app/manifests/1", busy, well_behaved)
    upstream.on("/v2/_catalog", busy, well_behaved)
    state = run_flow(tmp_path, upstream, more="maxRetries: 2, retryDelay: 0.1s,")
    assert state.is_completed(), state.message
    assert state.message == "2 of 2 images"
    tries = {run["name"].split()[0]: run["run_count"] for run in task_runs(api, state, at_least=6)}
    assert (tries["catalog"], tries["tags"], tries["publish"]) == (2, 2, 1)
    assert len(upstream.requests("HEAD", "/manifests/2")) == 1


def test_a_catalog_that_fails_each_time_leaves_what_rules_name(
    upstream: Misbehaving, api: httpx.Client, tmp_path: Path
) -> None:
    upstream.add_image("app", "1")
    upstream.on("/v2/_catalog", answers(500))
    state = run_flow(
        tmp_path,
        upstream,
        more="maxRetries: 2, retryDelay: 0.1s, ",
        content="[{prefix: '**'}, {prefix: app}]",
    )
    assert state.is_failed()
    assert str(state.message).startswith("1 of 1 images, ")
    tries = {run["name"].split()[0]: run["run_count"] for run in task_runs(api, state, at_least=6)}
    assert tries["catalog"] == 3


def test_what_a_retry_cannot_change_is_not(upstream: Misbehaving, api: httpx.Client, tmp_path: Path) -> None:
    image = upstream.add_image("app", "1", (b"a layer",))
    path = f"/v2/app/blobs/{image.layers[0].digest}"
    upstream.on(path, answers(200, b"A LAYER"))
    state = run_flow(tmp_path, upstream, more="maxRetries: 2, retryDelay: 0.1s,")
    assert state.is_failed()
    assert state.message == "0 of 1 images, 1 failed"
    assert len(upstream.requests("GET", path)) == 1
    runs = task_runs(api, state, at_least=6)
    assert Counter(run["state_name"] for run in runs if run["name"].startswith("copy")) == {"Failed": 1}


def test_a_chain_ends_where_nothing_passed(upstream: Misbehaving, api: httpx.Client, tmp_path: Path) -> None:
    upstream.add_manifest("app", "1", b'{"schemaVersion": 2, "layers": "none"}', OCI_MANIFEST)
    state = run_flow(tmp_path, upstream)
    assert state.is_failed()
    states = {run["name"]: run["state_name"] for run in task_runs(api, state, at_least=4)}
    assert states["manifests of app:1"] == "Failed"
    assert "publish app:1" not in states


def test_a_run_publishes_its_progress_its_summary_and_its_table(
    upstream: Misbehaving, api: httpx.Client, tmp_path: Path
) -> None:
    upstream.add_image("app", "1", (b"a layer",))
    state = run_flow(tmp_path, upstream)
    found = api.post(
        "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run_id(state)]}}}
    ).json()
    artifacts = {artifact["key"]: artifact for artifact in found}
    assert set(artifacts) == {"progress-up", "summary-up", "images-up"}
    assert artifacts["summary-up"]["description"] == "up: 1 of 1 images"
    assert "| copied | 1 |" in artifacts["summary-up"]["data"]
    assert [row["image"] for row in json.loads(artifacts["images-up"]["data"])] == ["app:1"]
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        progress = read_progress(client, UUID(run_id(state)))
    assert progress is not None
    assert progress[0] == 100.0
    assert progress[1].startswith("1 of 1 images, ")
    report = Store.open(tmp_path / "store").reports.load_all("up")[-1]
    assert UUID(report["runId"]) == state.state_details.flow_run_id


def test_a_large_run_has_far_fewer_task_runs_than_images(
    upstream: Misbehaving, api: httpx.Client, tmp_path: Path
) -> None:
    for number in range(260):
        upstream.add_image(f"team/app{number % 4}", f"1.{number}", (b"base", b"layer %d" % (number % 20)))
    state = run_flow(tmp_path, upstream)
    assert state.message == "260 of 260 images"
    shared = 1 + 4 + 3 * 8  # catalog, the tags of each repository, and two parts of each that are published
    runs = task_runs(api, state, at_least=shared)
    assert len(runs) <= shared + 8, "a part whose every blob is there has nothing to copy"
    store = Store.open(tmp_path / "store")
    assert sum(len(store.repository(name).tags()) for name in store.repositories()) == 260


def test_an_unknown_registry_entry_is_a_failure_with_a_name(
    upstream: Misbehaving, prefect_url: str, tmp_path: Path
) -> None:
    from flows.mirror_registry import mirror_registry

    run_flow(tmp_path, upstream)
    state: State[Any] = mirror_registry(str(tmp_path / "profile.yaml"), "down", return_state=True)
    assert state.is_failed()
    assert state.message == "the profile has no registry entry 'down'; it has: up"


def test_only_looks_at_nothing_else(upstream: Misbehaving, prefect_url: str, tmp_path: Path) -> None:
    upstream.add_image("app", "1", (b"one",))
    upstream.add_image("other", "1", (b"two",))
    state = run_flow(tmp_path, upstream, only=["app:1"])
    assert state.message == "1 of 1 images"
    assert not [seen for seen in upstream.requests() if "/other/" in seen.path or "_catalog" in seen.path]
    assert Store.open(tmp_path / "store").repositories() == [RepositoryName("app")]


def test_what_was_asked_for_and_is_not_there_fails_its_search(
    upstream: Misbehaving, api: httpx.Client, tmp_path: Path
) -> None:
    upstream.add_image("app", "1", (b"one",))
    state = run_flow(tmp_path, upstream, only=["app:1", "app:9"])
    assert state.is_failed()
    states = {run["name"]: run for run in task_runs(api, state, at_least=6)}
    assert states["tags of app"]["state_name"] == "Failed"
    assert states["tags of app"]["state"]["message"].startswith("app:9: no content rule takes it, or")
    assert states["publish app:1"]["state_name"] == "Completed", "the neighbour goes on"


def test_a_poll_that_finds_nothing_is_one_task_run_and_some_kilobytes(
    upstream: Misbehaving, api: httpx.Client, engine_root: Path, tmp_path: Path
) -> None:
    """Ten entries every five minutes for 30 days stay below 1 GB: 86,400 polls."""
    for number in range(4):
        upstream.add_image(f"team/app{number}", "1", (b"one",))
    assert run_flow(tmp_path, upstream).is_completed()
    polls = 10
    before = settled_bytes(engine_root)
    for _ in range(polls):
        state = run_flow(tmp_path, upstream)
        assert state.message == "4 of 4 images, nothing new"
        assert [run["name"] for run in task_runs(api, state)] == ["catalog of up"]
    assert (database_bytes(engine_root) - before) / polls <= 20_000


def settled_bytes(root: Path) -> int:
    """Once the server has written what it was told before."""
    sizes = [0]
    while sizes[-1] != (size := database_bytes(root)):
        sizes.append(size)
        time.sleep(2)
    return sizes[-1]


def database_bytes(root: Path) -> int:
    [database] = (root / "prefect").glob("*.db")
    with sqlite3.connect(database) as connection:
        found = connection.execute("select sum(pgsize) from dbstat").fetchone()
    return int(found[0])
