"""`up` with an entry on demand: what is missing is fetched, and seen in Prefect."""

from __future__ import annotations

import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
from rich.console import Console

from flows.orchestration.server_record import is_healthy
from flows.supervisor.up import Supervisor
from registry_server.store.store import Store
from tests.support_misbehaving import misbehaving
from tests.tasks.runs import assert_complete, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

# Prefect's own client and its threads leave sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_up_fetches_on_demand_and_prefect_shows_each_image_and_step(tmp_path: Path, prefect_url: str) -> None:
    with misbehaving() as upstream:
        for tag in ("1", "2", "3"):
            upstream.add_image("library/nginx", tag, layers=(tag.encode() * 10_000,))
        profile = _profile(tmp_path, upstream)
        environment = dict(os.environ) | {"PREFECT_API_URL": prefect_url}
        with (
            Supervisor(profile, environment=environment, console=Console(file=io.StringIO())) as up,
            httpx.Client(base_url=up.registry_url, timeout=60) as puller,
        ):
            for tag in ("1", "2", "3"):
                got = puller.get(f"/v2/library/nginx/manifests/{tag}")
                assert got.status_code == 200, got.text
                layer = got.json()["layers"][0]["digest"]
                assert puller.get(f"/v2/library/nginx/blobs/{layer}").status_code == 200
                name = f"library/nginx:{tag}"
                _until(partial(_is_tagged, tmp_path, name))  # behind the client's back
                _until(lambda: _runs(prefect_url))  # until one is open, work is done without it
    store = Store.open(tmp_path / "store", create=False)
    for tag in ("1", "2", "3"):
        assert_complete(store, f"library/nginx:{tag}")
    wanted = {
        f"{step} library/nginx:3"
        for step in (
            "fetch_manifest",
            "verify_signature",
            "convert_manifest",
            "copy_blob",
            "publish_image",
        )
    }
    for _ in range(100):  # the server records them in batches
        found = httpx.post(f"{prefect_url}/task_runs/filter", json={}, timeout=30).json()
        names = {each["name"] for each in found}
        if wanted <= names:
            break
        time.sleep(0.1)
    assert wanted <= names


def test_misses_are_served_before_prefect_has_started(tmp_path: Path) -> None:
    """Its server takes seconds, the first time a quarter of a minute: here, until the file `go` is there."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "while 'prefect' in sys.orig_argv and not os.path.exists(os.environ['GO']): time.sleep(0.05)\n"
    )
    go = tmp_path / "go"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PYTHONPATH": str(tmp_path), "GO": str(go)}
    with misbehaving() as upstream, ThreadPoolExecutor(1) as thread:
        upstream.add_image("library/nginx", "1", layers=(b"layer",))
        up = Supervisor(
            _profile(tmp_path, upstream),
            prefect_port=0,
            environment=environment,
            console=Console(file=io.StringIO()),
        )
        starting = thread.submit(up.__enter__)
        try:
            _until(lambda: up.registry_url)
            got = httpx.get(f"{up.registry_url}/v2/library/nginx/manifests/1", timeout=60)
            assert got.status_code == 200, got.text
            assert not is_healthy(up.api_url)
            go.touch()
            starting.result()
            assert is_healthy(up.api_url)
        finally:
            go.touch()
            up.stop()


def _profile(folder: Path, upstream: Misbehaving) -> Path:
    entry = {"name": "r", "urls": [f"http://{upstream.host}"], "onDemand": True}
    document = {
        "storage": {"rootDirectory": "store"},
        "http": {"port": 0},
        "sync": {"registries": [entry]},
    }
    path = folder / "profile.json"
    path.write_text(json.dumps(document))
    return path


def _until(condition: Callable[[], object]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it does not come about")


def _runs(prefect_url: str) -> list[str]:
    """The names of the flow runs on demand that have begun."""
    found = httpx.post(f"{prefect_url}/flow_runs/filter", json={}, timeout=30).json()
    return [each["name"] for each in found if each["name"] == "on demand" and each["state_type"] == "RUNNING"]


def _is_tagged(folder: Path, name: str) -> bool:
    return name in visible(Store.open(folder / "store", create=False))
