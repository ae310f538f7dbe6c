"""What holds for every endpoint: methods, errors, odd requests, the access log."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from flows.demo.sample_images import ImageMaker
from registry_server.http.app import create_app
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.support.registries import put_blob
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.registries import Registry

DIGEST = Digest.of(b"content")


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_it_is_a_registry(registry: Registry, path: str) -> None:
    answer = registry.client.get(path)
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize("path", ["/", "/v1/_ping", "/favicon.ico", "/v2/a", "/v2/_oci/ext/discover", "/V2/"])
def test_a_path_outside_of_the_api_is_404_with_an_explanation(registry: Registry, path: str) -> None:
    answer = registry.client.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/json")
    assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/a/blobs/uploads/"),
        ("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}&from=b"),
        ("PATCH", "/v2/a/blobs/uploads/session"),
        ("PUT", f"/v2/a/blobs/uploads/session?digest={DIGEST}"),
        ("GET", "/v2/a/blobs/uploads/session"),
        ("PUT", "/v2/a/manifests/latest"),
        ("DELETE", "/v2/a/manifests/latest"),
        ("DELETE", f"/v2/a/blobs/{DIGEST}"),
        ("POST", "/v2/"),
        ("OPTIONS", "/v2/_catalog"),
    ],
)
def test_writing_is_not_supported(registry: Registry, method: str, path: str) -> None:
    answer = registry.client.request(method, path, content=b"{}" if method != "GET" else None)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"
    assert registry.client.get("/v2/").status_code == 200  # the connection is still good


def test_a_large_body_that_nobody_reads_does_no_harm(registry: Registry) -> None:
    answer = httpx.put(f"{registry.url}/v2/a/manifests/latest", content=bytes(8 * 1024 * 1024))
    assert answer.status_code == 405


def _raw(registry: Registry, request: str) -> bytes:
    host, _, port = registry.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        pytest.param("GET /v2/../../etc/passwd/manifests/1 HTTP/1.1", 400, id="dots"),
        pytest.param("GET /v2/%2e%2e/%2e%2e/etc/manifests/passwd HTTP/1.1", 400, id="escaped-dots"),
        pytest.param("GET /v2/a/manifests/..%2f..%2fpasswd HTTP/1.1", 400, id="escaped-slashes"),
        pytest.param("GET /v2/a/manifests/%00 HTTP/1.1", 400, id="nul"),
        pytest.param("GET http://elsewhere/v2/ HTTP/1.1", 200, id="absolute-form"),
        pytest.param("GET //v2/ HTTP/1.1", 404, id="two-slashes"),
        pytest.param("GET /v2/?n=1#part HTTP/1.1", 200, id="fragment"),
    ],
)
def test_odd_request_lines(registry: Registry, request_line: str, status: int) -> None:
    answer = _raw(registry, f"{request_line}\nHost: other.example\nConnection: close\n\n")
    assert answer.split()[1] == str(status).encode()


def test_a_request_that_could_be_read_in_two_ways_is_refused(registry: Registry) -> None:
    lines = (
        "POST /v2/ HTTP/1.1\nHost: a\nContent-Length: 4\nTransfer-Encoding: chunked\nConnection: close\n\n"
    )
    answer = _raw(registry, lines + "0\n\nGET /v2/_catalog HTTP/1.1\nHost: a\nConnection: close\n\n")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_the_access_log_says_what_was_asked_for(registry: Registry) -> None:
    blob = put_blob(registry.store, "library/logged", b"logged content")
    maker = registry.maker("library/logged")
    maker.tag(maker.image([]), "latest")
    registry.requests.new()
    client, name = registry.client, "/v2/library/logged"
    client.get("/v2/")
    client.head(f"{name}/manifests/latest")
    client.get(f"{name}/manifests/latest")
    client.get(f"{name}/blobs/{blob.digest}", headers={"Range": "bytes=2-5", "User-Agent": 'a "quoted"\tone'})
    client.get(f"{name}/tags/list?n=1")
    client.get("/v2/_catalog")
    client.get(f"{name}/referrers/{blob.digest}")
    client.post(f"{name}/blobs/uploads/")
    client.get("/nowhere")

    records = registry.requests.all()[-9:]
    assert registry.requests.counts() == {
        "GET base": 1, "HEAD manifest": 1, "GET manifest": 1, "GET blob": 1, "GET tags": 1,
        "GET catalog": 1, "GET referrers": 1, "POST upload": 1, "GET other": 1,
    }  # fmt: skip
    ranged = records[3]
    assert ranged["target"] == f"{name}/blobs/{blob.digest}"
    assert (ranged["status"], ranged["bytes"], ranged["range"]) == (206, 4, "bytes=2-5")
    assert (ranged["complete"], ranged["agent"]) == (True, 'a "quoted"\tone')
    assert ranged["time"].endswith("+00:00")
    assert records[4]["target"] == f"{name}/tags/list?n=1"
    assert records[1]["bytes"] == 0


async def _ask(store: Store, method: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path)


def test_head_never_opens_the_blob(tmp_path: Path) -> None:
    store = Store.open(tmp_path, durability="none")
    blob = put_blob(store, "library/head", b"content")
    opened: list[str] = []
    watching = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).endswith(blob.digest.hex):
            opened.append(str(arguments[0]))

    sys.addaudithook(note)  # stays for the process: hence `watching`
    path = f"/v2/library/head/blobs/{blob.digest}"
    anyio.run(_ask, store, "HEAD", path)
    assert opened == []
    anyio.run(_ask, store, "GET", path)
    assert len(opened) == 1
    watching = False


def test_a_store_that_cannot_be_read_is_an_error_and_names_no_paths(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(tmp_path, durability="none")
    repository = store.repository(RepositoryName("library/odd"))
    made = ImageMaker(repository).image([])
    path = file_of(repository, made.digest)
    path.chmod(0o600)
    path.write_text("{}")
    answer = anyio.run(_ask, store, "GET", f"/v2/library/odd/manifests/{made.digest}")
    assert answer.status_code == 500
    assert answer.json()["errors"][0]["code"] == "UNKNOWN"
    assert str(tmp_path) not in answer.text
    assert f"{path} is damaged" in caplog.text
