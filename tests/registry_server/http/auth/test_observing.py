"""/metrics, /livez, /readyz; and a log that tells who asked for what, and no secret."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from flows.demo.sample_images import layer
from registry_server.http.server_options import ServerOptions
from registry_server.http.server_process import ServerProcess
from registry_server.oci.digest import Digest
from registry_server.store.filesystem.locks import try_lock
from registry_server.store.store import Store
from tests.registry_server.http.auth.support import AUTH, USERS, auth_of, bearer, guarded, options_of, token
from tests.registry_server.http.fetching import fetching
from tests.support.registries import put_blob, running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry

CONTROL = """
accessControl:
  repositories: {"**": {anonymousPolicy: [read]}}
  adminPolicy: {users: [admin], actions: [read]}
  metrics: {users: [zoe]}
"""


def _fill(registry: Registry) -> str:
    maker = registry.maker("team/app")
    made = maker.image([layer("base", 3000)])
    maker.tag(made, "1")
    return str(made.digest)


def _samples(registry: Registry) -> dict[str, float]:
    text = registry.client.get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^([^#\n].*) (\S+)$", text, re.MULTILINE)}


def test_requests_of_all_workers_are_counted(tmp_path: Path) -> None:
    with running_registry(tmp_path, workers=2) as registry:
        _fill(registry)
        for _ in range(20):
            registry.client.get("/v2/team/app/manifests/1", headers={"Connection": "close"})
        registry.client.head("/v2/team/app/manifests/none")
        registry.client.request("BREW", "/v2/")
        found = _samples(registry)
        answer = registry.client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert found['mirrorflow_http_requests_total{method="GET",route="manifest",status="200"}'] == 20
    assert found['mirrorflow_http_request_seconds_count{method="GET",route="manifest"}'] == 20
    assert found['mirrorflow_lookups_total{result="hit",route="manifest"}'] == 20
    assert found['mirrorflow_lookups_total{result="miss",route="manifest"}'] == 1
    assert found['mirrorflow_http_requests_total{method="other",route="base",status="405"}'] == 1
    assert found['mirrorflow_store_free_bytes{root="/"}'] > 0
    assert found['mirrorflow_store_incoming_blobs{root="/"}'] == 0


def test_bytes_of_every_root_are_shown(tmp_path: Path) -> None:
    with running_registry(tmp_path, subpaths={"/tools": tmp_path / "tools"}) as registry:
        put_blob(registry.store, "a", b"12345")
        put_blob(registry.store, "b", b"12345")
        put_blob(registry.store, "tools/jq", b"123")
        found = _samples(registry)
    assert found['mirrorflow_store_bytes{root="/"}'] == 5
    assert found['mirrorflow_store_bytes{root="/tools"}'] == 3


def test_what_is_fetched_for_a_client_is_a_miss_and_then_a_hit(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", durability="none")
    with fetching(store, tmp_path) as upstream, running_registry(tmp_path, on_miss=upstream.options) as found:
        upstream.upstream = {"team/app": {"1": b"layer"}}
        for _ in range(3):
            assert found.client.get("/v2/team/app/manifests/1").status_code == 200
        blob = f"/v2/team/app/blobs/{Digest.of(b'layer')}"
        assert found.client.get(blob).status_code == 200
        assert found.client.get(f"/v2/team/app/blobs/{Digest.of(b'nowhere')}").status_code == 404
        samples = _samples(found)
        missed = [each["missed"] for each in found.requests.all()[:5]]
    assert missed == [True, False, False, False, True]
    assert samples['mirrorflow_lookups_total{result="miss",route="manifest"}'] == 1
    assert samples['mirrorflow_lookups_total{result="hit",route="manifest"}'] == 2
    assert samples['mirrorflow_lookups_total{result="hit",route="blob"}'] == 1
    assert samples['mirrorflow_lookups_total{result="miss",route="blob"}'] == 1


def test_counts_of_a_server_that_was_killed_are_removed_by_the_next(tmp_path: Path) -> None:
    def left() -> set[str]:
        return {each.name for each in tmp_path.glob("mirrorflow-metrics-*")}

    others = tmp_path / "mirrorflow-metrics-of-somebody"
    others.mkdir()
    with _temporary_files_in(tmp_path):
        alive = ServerProcess(ServerOptions(tmp_path / "store", port=0))
        (kept,) = left() - {others.name}
        killed = ServerProcess(ServerOptions(tmp_path / "store", port=0))
        (lost,) = left() - {others.name, kept}
        os.kill(killed.pid, signal.SIGKILL)
        killed.stop()
        _await_unlocked(tmp_path / lost / "lock")
        assert len(left()) == 3
        last = ServerProcess(ServerOptions(tmp_path / "store", port=0))
        assert len(left()) == 3
        assert kept in left()
        last.stop()
        alive.stop()
    assert left() == {others.name}


def _await_unlocked(lock: Path) -> None:
    """The workers of a server that was killed end a moment after it."""
    with lock.open("r+b") as file:
        while not try_lock(file.fileno()):
            time.sleep(0.01)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        yield


def test_upkeep_is_shown_once_there_was_some(tmp_path: Path) -> None:
    with running_registry(tmp_path) as registry:
        assert not [name for name in _samples(registry) if "_last_" in name]
        (registry.store.root / "gc.json").write_text(
            '{"seconds": 2.5, "problems": ["a", "b"], "kept": "odd"}'
        )
        (registry.store.root / "scrub.json").write_text("[1]")
        found = {name: value for name, value in _samples(registry).items() if "_last_" in name}
    assert found == {"mirrorflow_gc_last_seconds": 2.5, "mirrorflow_gc_last_problems": 2}


def test_metrics_are_for_everyone_where_the_profile_says_so(tmp_path: Path) -> None:
    control = CONTROL.replace("{users: [zoe]}", "{anonymousPolicy: [read]}")
    with guarded(tmp_path, f"{AUTH}{control}") as registry:
        for who in ("", "alice", "admin"):
            assert registry.client.get("/metrics", auth=auth_of(who)).status_code == 200
        assert registry.client.get("/metrics", auth=("alice", "wrong")).status_code == 401


@pytest.mark.parametrize(("who", "status"), [("", 401), ("alice", 403), ("zoe", 200), ("admin", 200)])
def test_metrics_are_for_whom_the_profile_names(tmp_path: Path, who: str, status: int) -> None:
    with guarded(tmp_path, f"{AUTH}{CONTROL}") as registry:
        assert registry.client.get("/metrics", auth=auth_of(who)).status_code == status
        for path in ("/livez", "/readyz"):
            assert registry.client.get(path).text == "ok\n"


def test_a_token_for_a_repository_is_none_for_metrics(tmp_path: Path) -> None:
    with guarded(tmp_path, f"{AUTH}{CONTROL}") as registry:
        made = token(registry, "admin", "repository:library/nginx:pull")
        assert registry.client.get("/metrics", headers=bearer(made)).status_code == 403


def test_a_store_that_is_gone_is_not_ready(tmp_path: Path) -> None:
    with running_registry(tmp_path) as registry:
        assert registry.client.get("/readyz").status_code == 200
        (registry.store.root / "format.json").rename(tmp_path / "elsewhere")
        assert registry.client.get("/readyz").status_code == 503
        assert registry.client.get("/livez").status_code == 200


def test_the_log_says_who_asked_for_what(tmp_path: Path) -> None:
    with guarded(tmp_path, f"{AUTH}{CONTROL}") as registry:
        digest = _fill(registry)
        client = registry.client
        answer = client.get("/v2/team/app/manifests/1", auth=auth_of("alice"))
        client.get(f"/v2/team/app/manifests/{digest}", headers={"X-Request-Id": "from-a.proxy_1"})
        client.get("/v2/team/app/manifests/1", headers={"X-Request-Id": 'no "good"'})
        first, second, third = registry.requests.all()[-3:]
    assert (first["user"], first["repository"], first["digest"]) == ("alice", "team/app", digest)
    assert first["id"] == answer.headers["X-Request-Id"]
    assert (first["bytes"], first["status"]) == (len(answer.content), 200)
    assert first["seconds"] > 0
    assert (second["user"], second["id"], second["digest"]) == ("", "from-a.proxy_1", digest)
    assert re.fullmatch("[0-9a-f]{16}", third["id"])


def test_no_secret_is_in_any_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secrets = [*USERS.values(), "gu3ss", "qu3ry"]
    with guarded(tmp_path, f"{AUTH}{CONTROL}") as registry:
        _fill(registry)
        client = registry.client
        for who in USERS:
            client.get("/v2/", auth=auth_of(who))
            text = token(registry, who, "repository:team/app:pull")
            secrets.append(text)
            client.get("/v2/team/app/manifests/1", headers=bearer(text))
            form = {"grant_type": "password", "username": who, "password": USERS[who]}
            secrets.append(client.post("/auth/token", data=form).json()["token"])
        client.get("/v2/", auth=("gu3ss", "gu3ss"))  # people type their password where the name goes
        client.get("/v2/?password=qu3ry&access_token=qu3ry&qu3ry2=qu3ry")
        client.get("/auth/token?account=alice&refresh_token=qu3ry")
        client.get("/v2/_catalog", headers={"Authorization": "Nonsense qu3ry"})
        log = registry.requests.path.read_text()
        assert '"target": "/v2/?password=-&access_token=-&qu3ry2=-"' in log
        log = log.replace("qu3ry2", "")
    said = "".join(capfd.readouterr()) + log + (tmp_path / "store/format.json").read_text()
    key = (tmp_path / "store/access/token-key.pem").read_text().splitlines()[1]
    for secret in [*secrets, key, "$2b$"]:
        assert secret not in said


@pytest.mark.parametrize(
    ("http", "said"),
    [
        ("address: 127.0.0.1", ""),
        ("address: 0.0.0.0", "warning: other machines reach 0.0.0.0 without TLS and without authentication"),
        (f"address: 0.0.0.0\n{AUTH}", "warning: other machines reach 0.0.0.0 without TLS\n"),
    ],
)
def test_a_server_that_others_reach_says_what_it_lacks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], http: str, said: str
) -> None:
    (tmp_path / "htpasswd").write_text("")
    server = ServerProcess(options_of(tmp_path, http))
    server.stop()
    found = capfd.readouterr().err
    assert said in found
    assert bool(said) is ("warning" in found)


def test_a_client_that_never_ends_its_head_is_left_after_a_while(tmp_path: Path) -> None:
    with guarded(tmp_path, "headerTimeout: 200ms") as registry:
        host, _, port = registry.host.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n")
            while connection.recv(1024):  # at most an error; then the end
                pass
        assert registry.client.get("/v2/").status_code == 200
