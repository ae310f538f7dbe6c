"""The receiver as a process: killed in mid-layer, restarted, and gone with its parent."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from flows.receiver.call_options import SecretUnusable
from flows.receiver.child_process import ReceiverProcess
from profiles.loader import load_profile
from registry_server.http.pull_through.webhook_client import OnMissOptions
from registry_server.http.server_process import running_server
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.on_demand.mirrors import document
from tests.on_demand.test_streaming import HALF, LAYER, Gate
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.runs import assert_complete

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support_misbehaving import Exchange


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def ranged(exchange: Exchange) -> None:
    """The rest of the layer, as a registry answers a Range."""
    start = int(exchange.seen.headers["range"].removeprefix("bytes=").removesuffix("-"))
    span = f"bytes {start}-{len(LAYER) - 1}/{len(LAYER)}"
    exchange.answer(206, LAYER[start:], {"Content-Range": span})


def test_a_receiver_that_is_killed_breaks_the_answer_and_the_next_one_resumes(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """And all of it without any Prefect server."""
    image = upstream.add_image("library/big", "1", layers=(LAYER,))
    path = f"/v2/library/big/blobs/{image.layers[0].digest}"
    upstream.on(path, Gate(LAYER), ranged)
    profile_path = tmp_path / "profile.json"
    entry = document(f"http://{upstream.host}")
    profile_path.write_text(
        json.dumps({"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}})
    )
    environment = dict(os.environ) | {
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }
    profile = load_profile(profile_path).profile
    store = Store.open(tmp_path / "store")
    receiver = ReceiverProcess(profile, profile_path, tmp_path / "home", "0")
    try:
        with (
            running_server(store.root, on_miss=receiver.call_file) as url,
            httpx.Client(base_url=url, timeout=60) as client,
        ):
            receiver.start(environment)
            assert client.get("/v2/library/big/manifests/1").status_code == 200
            assert receiver.pid is not None
            with client.stream("GET", path) as answer:
                chunks = answer.iter_raw(HALF)
                next(chunks)
                os.kill(receiver.pid, signal.SIGKILL)
                with pytest.raises(httpx.RemoteProtocolError):
                    list(chunks)
            while not receiver.check():
                pass
            assert client.get(path).content == LAYER
            assert client.get("/v2/library/big/manifests/1").status_code == 200
            while store.repository(RepositoryName("library/big")).tag(Tag("1")) is None:
                time.sleep(0.05)  # it is set behind the client's back
        ranges = [each.headers["range"] for each in upstream.requests("GET", path) if "range" in each.headers]
        assert ranges == [f"bytes={HALF}-"]
    finally:
        receiver.stop()
    assert_complete(store, "library/big:1")


def test_without_ondemand_there_is_no_receiver(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text('{"storage": {"rootDirectory": "s"}, "sync": {"registries": [{"urls": ["https://r"]}]}}')
    receiver = ReceiverProcess(load_profile(path).profile, path, tmp_path, "0")
    assert receiver.call_file is None
    receiver.start({})
    assert receiver.check() == ""
    receiver.stop()


def test_a_receiver_of_ones_own_is_called_and_not_started(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    entry = {"urls": ["https://r"], "onDemand": True}
    on_miss = {"url": "http://127.0.0.1:1/miss", "secretFile": "secret", "timeout": "5s"}
    path.write_text(
        json.dumps(
            {
                "storage": {"rootDirectory": "s"},
                "http": {"onMiss": on_miss},
                "sync": {"registries": [entry]},
            }
        )
    )
    profile = load_profile(path).profile
    with pytest.raises(SecretUnusable, match="cannot read"):
        ReceiverProcess(profile, path, tmp_path, "0")
    (tmp_path / "secret").write_text(" \n")
    with pytest.raises(SecretUnusable, match="is empty"):
        ReceiverProcess(profile, path, tmp_path, "0")
    (tmp_path / "secret").write_text("s3cret\n")
    receiver = ReceiverProcess(profile, path, tmp_path, "0")
    receiver.start({})
    assert receiver.pid is None
    assert receiver.call_file is not None
    assert receiver.call_file.stat().st_mode & 0o777 == 0o600
    assert OnMissOptions.read(receiver.call_file) == OnMissOptions(
        ("http://127.0.0.1:1/miss",), b"s3cret", 5.0, mark="mirrorflow-0"
    )
    assert "s3cret" not in repr(OnMissOptions.read(receiver.call_file))
    receiver.stop()
    assert not receiver.call_file.exists()
