"""Two servers behind nginx, as docs/scaling.md has it: what clients see while one of them dies."""

from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci.digest import Digest
from tests.conftest import require_program
from tests.registry_server.http.pushing import begin, finish, patch, push_image
from tests.several_servers.balanced import PASSWORD, Balanced, balanced
from tests.support.waiting import wait_for
from tests.support_misbehaving import Misbehaving, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

LAYER = os.urandom(3_000_000)
KILLS = int(os.environ.get("MIRRORFLOW_KILLS", "6"))
CI = httpx.BasicAuth("ci", PASSWORD)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        server.add_image("prometheus/node", "1", layers=(LAYER,))
        yield server


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, upstream: Misbehaving) -> Iterator[Balanced]:
    with balanced(tmp_path_factory.mktemp("balanced"), f"http://{upstream.host}") as found:
        yield found


def _token(mirror: Balanced, client: httpx.Client, scope: str) -> dict[str, str]:
    """The dance of a client: the challenge names the load balancer."""
    challenge = client.get("/v2/").headers["WWW-Authenticate"]
    assert f'realm="{mirror.url}/auth/token"' in challenge
    query = {"service": "mirrorflow", "scope": scope}
    answer = client.get("/auth/token", params=query, auth=CI)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def test_a_token_is_good_at_whichever_server_is_asked(mirror: Balanced) -> None:
    """Each request on a connection of its own; nginx gives them to the servers in turn."""
    with mirror.client() as client:
        token = _token(mirror, client, "repository:team/app:pull,push")
    before = [_requests(port) for port in mirror.ports]
    for _ in range(8):
        with mirror.client() as client:
            assert client.get("/v2/team/app/tags/list", headers=token).status_code in (200, 404)
    after = [_requests(port) for port in mirror.ports]
    assert all(then > now for now, then in zip(before, after, strict=True)), (before, after)


def _requests(port: int) -> float:
    """Requests for lists of tags that a server has answered."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", auth=("prometheus", PASSWORD))
    assert answer.status_code == 200, answer.text
    return sum(
        float(line.rpartition(" ")[2])
        for line in answer.text.splitlines()
        if line.startswith("mirrorflow_http_requests_total") and 'route="tags"' in line
    )


def test_skopeo_pushes_and_pulls_through_the_load_balancer(mirror: Balanced, tmp_path: Path) -> None:
    skopeo = require_program("skopeo")
    certificates = tmp_path / "certs"
    certificates.mkdir()
    (certificates / "ca.crt").write_bytes(mirror.authority.cert.read_bytes())
    name = f"docker://{mirror.host}/team/app:skopeo"
    with mirror.client() as client:
        client.auth = CI
        push_image(client, "1", LAYER, name="team/app")
    source = f"docker://{mirror.host}/team/app:1"
    trusted = [f"--{side}-cert-dir={certificates}" for side in ("src", "dest")]
    user = [f"--{side}-creds=ci:{PASSWORD}" for side in ("src", "dest")]
    _run(skopeo, "copy", "--preserve-digests", *trusted, *user, source, name)
    _run(skopeo, "copy", "--preserve-digests", trusted[0], user[0], name, f"oci:{tmp_path / 'layout'}:1")
    layer = tmp_path / "layout/blobs/sha256" / Digest.of(LAYER).hex
    assert layer.read_bytes() == LAYER


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


def test_chunks_of_a_push_go_on_while_servers_are_killed_between_them(mirror: Balanced) -> None:
    content, size = os.urandom(8 * 100_000), 100_000
    with mirror.client() as client:
        client.auth = CI
        location = begin(client, "team/app")
    for number, start in enumerate(range(0, len(content), size)):
        if number in (2, 5):
            mirror.kill_and_restart(number % 2)
        with mirror.client() as client:
            client.auth = CI
            answer = patch(client, location, content[start : start + size], start=start)
            if answer.status_code == 502:  # nginx does not repeat what a killed server may have taken
                assert client.get(location).headers["Range"] == f"0-{start - 1}"
                answer = patch(client, location, content[start : start + size], start=start)
            assert answer.status_code == 202, answer.text
    with mirror.client() as client:
        client.auth = CI
        for _ in range(2):  # as nginx repeats it when a server dies before its answer
            assert finish(client, location, Digest.of(content)).status_code == 201
        assert client.get(f"/v2/team/app/blobs/{Digest.of(content)}").content == content


@dataclass
class Pulls:
    """Clients that pull one image again and again, as docker does: what breaks off is asked for again."""

    mirror: Balanced
    manifests: int = 0
    layers: int = 0
    broken: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def go_on(self, working: list[Future[None]]) -> None:
        """Wait for three more images."""
        wanted = self.layers + 3
        wait_for(lambda: self.layers >= wanted or any(each.done() for each in working))

    def work(self) -> None:
        while not self.stop.is_set():
            with self.mirror.client() as client:
                body = self._get(client, "/v2/prometheus/node/manifests/1")
                assert b"layers" in body
                assert self._get(client, f"/v2/prometheus/node/blobs/{Digest.of(LAYER)}") == LAYER
            with self.lock:
                self.manifests += 1
                self.layers += 1

    def _get(self, client: httpx.Client, path: str) -> bytes:
        for _ in range(5):
            try:
                answer = client.get(path)
            except httpx.RemoteProtocolError:  # the server died while it sent this
                with self.lock:
                    self.broken += 1
                continue
            assert answer.status_code == 200, answer.text
            return answer.content
        raise AssertionError(f"{path} broke off five times")


def test_no_pull_fails_and_no_byte_is_wrong_while_servers_are_killed(
    mirror: Balanced, upstream: Misbehaving
) -> None:
    """Every answer is 200: nginx gives a request that has no answer yet to the other server."""
    pulls = Pulls(mirror)
    with ThreadPoolExecutor(4) as threads:
        working = [threads.submit(pulls.work) for _ in range(4)]
        try:
            for kill in range(KILLS):
                pulls.go_on(working)
                mirror.kill_and_restart(kill % 2)
        finally:
            pulls.stop.set()
        for each in working:
            each.result()
    print(f"{KILLS} kills, {pulls.layers} images pulled, {pulls.broken} answers broke off")
    assert pulls.layers >= 3 * KILLS
    assert len(upstream.requests("GET", "/blobs/")) <= 2  # config and layer, once
