"""Several receivers apart from `up`, behind several servers over one store; all of them real processes."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flows.receiver.call_options import CannotListen
from flows.receiver.child_process import ReceiverProcess
from flows.receiver.registration import Registration
from profiles.loader import load_profile
from registry_server.http.pull_through.receivers import in_order
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.on_demand.mirrors import document
from tests.on_demand.test_processes import ranged
from tests.on_demand.test_streaming import HALF, LAYER, Gate
from tests.several_servers.programs import Program, receiving, serving
from tests.support.command_line import mirrorflow
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.runs import assert_complete

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGES = [f"team/app-{number}" for number in range(8)]


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def write_profile(folder: Path, upstream: Misbehaving, **on_miss: Any) -> Path:
    (folder / "on-miss.secret").write_text("only for this test")
    section = {"secretFile": "on-miss.secret"} | (on_miss or {"receiver": {"address": "127.0.0.1"}})
    path = folder / "profile.json"
    path.write_text(
        json.dumps(
            {
                "storage": {"rootDirectory": "store"},
                "http": {"onMiss": section},
                "sync": {"registries": [document(f"http://{upstream.host}")]},
            }
        )
    )
    return path


def _pull(url: str, name: str) -> bytes:
    """The layer of the only image, as a client gets it."""
    with httpx.Client(base_url=url, timeout=60) as client:
        manifest = client.get(f"/v2/{name}/manifests/1")
        assert manifest.status_code == 200, manifest.text
        (layer,) = manifest.json()["layers"]
        answer = client.get(f"/v2/{name}/blobs/{layer['digest']}")
        assert answer.status_code == 200, answer.text
        assert Digest.of(answer.content) == layer["digest"]
        return answer.content


def _complete(root: Path, name: str) -> None:
    """Once the tag is set, behind the client's back."""
    repository = Store.open(root).repository(RepositoryName(name))
    while repository.tag(Tag("1")) is None:
        time.sleep(0.05)
    assert_complete(Store.open(root), f"{name}:1")


def test_equal_misses_of_two_servers_meet_in_the_receiver_that_owns_the_repository(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """Six clients at once for each of eight images, at two servers: each thing is fetched once."""
    for name in IMAGES:
        upstream.add_image(name, "1", layers=(f"layer of {name}".encode(),))
    path = write_profile(tmp_path, upstream)
    (here, _), (there, _) = receiving(path), receiving(path)
    (one, first), (two, second) = serving(path), serving(path)
    with here, there, one, two, ThreadPoolExecutor(48) as clients:
        wanted = [(url, name) for name in IMAGES for url in (first, second) for _ in range(3)]
        pulled = [clients.submit(_pull, url, name) for url, name in wanted]
        for (_, name), each in zip(wanted, pulled, strict=True):
            assert each.result() == f"layer of {name}".encode()
        for name in IMAGES:
            _complete(tmp_path / "store", name)
        assert [program.stop() for program in (here, there)] == [0, 0]
    asked = [str(seen) for seen in upstream.requests("GET") if "/v2/team/" in seen.path]
    assert len(asked) == len(set(asked)), asked
    assert not list((tmp_path / "store/receivers").iterdir())


def test_a_receiver_is_killed_in_mid_layer_and_the_other_goes_on_from_there(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    image = upstream.add_image("library/big", "1", layers=(LAYER,))
    blob = f"/v2/library/big/blobs/{image.layers[0].digest}"
    upstream.on(blob, Gate(LAYER), ranged)
    path = write_profile(tmp_path, upstream)
    receivers = {url: program for program, url in (receiving(path), receiving(path))}
    owner, stands_in = in_order(receivers, "library/big")
    server, url = serving(path)
    with server, receivers[owner], receivers[stands_in], httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/v2/library/big/manifests/1").status_code == 200
        with client.stream("GET", blob) as answer:
            chunks = answer.iter_raw(HALF)
            next(chunks)
            receivers[owner].kill()
            with pytest.raises(httpx.RemoteProtocolError):
                list(chunks)
        assert client.get(blob).content == LAYER
        assert client.get("/v2/library/big/manifests/1").status_code == 200
        _complete(tmp_path / "store", "library/big")
    ranges = [each.headers["range"] for each in upstream.requests("GET", blob) if "range" in each.headers]
    assert ranges == [f"bytes={HALF}-"]


def test_a_server_calls_the_receivers_that_the_profile_lists(tmp_path: Path, upstream: Misbehaving) -> None:
    """The first one does not run; and no record is written."""
    upstream.add_image("team/app", "1")
    with socket.create_server(("127.0.0.1", 0)) as closed, socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [each.getsockname()[1] for each in (closed, taken)]
    urls = [f"http://127.0.0.1:{port}/" for port in ports]
    path = write_profile(tmp_path, upstream, urls=urls)
    with Program("receive", path, "--port", ports[1]) as receiver:
        receiver.said("press Ctrl-C")
        server, url = serving(path, "--workers", 2)
        with server:
            assert _pull(url, "team/app") == b"layer"
    assert not (tmp_path / "store/receivers").exists()


def test_the_receiver_of_up_is_found_by_servers_of_other_hosts(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image("team/app", "1")
    path = write_profile(tmp_path, upstream, receiver={"address": "0.0.0.0", "port": 0, "url": ""})  # noqa: S104
    profile = load_profile(path).profile
    store = Store.open(tmp_path / "store")
    receiver = ReceiverProcess(profile, path, tmp_path / "home", store.uuid)
    try:
        receiver.start({**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"})
        while not (beats := store.receivers.beats()):
            time.sleep(0.05)
        (url,) = beats
        assert url.startswith(f"http://{socket.gethostname()}:")
        server, served = serving(path)
        with server:
            assert _pull(served, "team/app") == b"layer"
    finally:
        receiver.stop()
    assert store.receivers.beats() == {}


def test_two_receivers_cannot_have_one_port(tmp_path: Path, upstream: Misbehaving) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = write_profile(tmp_path, upstream, receiver={"port": port})
        with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port} \(http\.onMiss\.receiver\)"):
            ReceiverProcess(load_profile(path).profile, path, tmp_path / "home", "0")
        done = mirrorflow("receive", path)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize(
    ("section", "entry", "options", "complaint"),
    [
        pytest.param({}, {"onDemand": True}, [], "write http.onMiss.secretFile", id="no secret"),
        pytest.param({}, {"pollInterval": "1h"}, [], "write onDemand: true", id="nothing is on demand"),
        pytest.param(
            {"receiver": {}, "secretFile": "none"}, {"onDemand": True}, [],
            "cannot read http.onMiss.secretFile", id="a secret that is not there",
        ),
        pytest.param(
            {"receiver": {}, "secretFile": "profile.json"}, {"onDemand": True}, ["--notifications"],
            "needs sync.notifications", id="no notifications",
        ),
    ],
)  # fmt: skip
def test_a_receiver_that_could_do_nothing_says_what_is_missing(
    tmp_path: Path, section: dict[str, Any], entry: dict[str, Any], options: list[str], complaint: str
) -> None:
    path = tmp_path / "profile.json"
    registry = {"urls": ["https://r.example"], "content": [{"prefix": "a"}], **entry}
    profile = {
        "storage": {"rootDirectory": "s"},
        "http": {"onMiss": section},
        "sync": {"registries": [registry]},
    }
    path.write_text(json.dumps(profile))
    done = mirrorflow("receive", path, "--port", 0, *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in " ".join(done.stderr.split())


def test_a_prefect_server_that_does_not_answer_is_an_error(tmp_path: Path, upstream: Misbehaving) -> None:
    path = write_profile(tmp_path, upstream)
    done = mirrorflow("receive", path, "--port", 0, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1
    assert "PREFECT_API_URL" in done.stderr


def test_records_of_receivers_that_were_killed_are_removed_after_an_hour(tmp_path: Path) -> None:
    now, records = [0.0], Store.open(tmp_path / "store").receivers
    records.renew("http://killed.example:8091/")
    registration = Registration(records, "http://ours.example:8091/", clock=lambda: now[0])
    with registration:
        registration.forget_lost()
        now[0] = 3599
        registration.forget_lost()
        assert len(records.beats()) == 2
        now[0] = 3601
        registration.forget_lost()
        assert set(records.beats()) == {"http://ours.example:8091/"}
    assert records.beats() == {}
