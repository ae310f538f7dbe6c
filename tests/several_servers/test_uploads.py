"""An upload goes on at whichever server gets the next request, whatever happened to the one before."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from flows.demo.sample_images import layer
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.clients.conftest import optional_program
from tests.registry_server.http.pushing import begin, finish, patch
from tests.several_servers.hosts import two_hosts
from tests.several_servers.programs import serving
from tests.support.registries import running_registry
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHUNK = 200_000
HALF = 3_000_000  # of a chunk that is cut short: servers write it in pieces
CONTENT = os.urandom(5 * CHUNK)
NAME = RepositoryName("team/app")
PROFILE = """
storage: {{rootDirectory: {root}, sharedFileSystem: {declared}}}
http: {{accessControl: {{repositories: {{"**": {{anonymousPolicy: [read, create, update]}}}}}}}}
sync: {{registries: []}}
"""


def profile(folder: Path, root: Path, declared: str = "auto") -> Path:
    path = folder / f"{root.parent.name}.yaml"
    path.write_text(PROFILE.format(root=root, declared=declared))
    return path


def _at(url: str, location: str) -> str:
    """What a load balancer does: the same path at another server."""
    found = urlsplit(location)
    return f"{url}{found.path}?{found.query}" if found.query else f"{url}{found.path}"


def push_alternating(urls: list[str], content: bytes, *, ranges: bool) -> None:
    """Each request at the next server, on a connection of its own."""
    turns = [*urls] * len(content)
    with httpx.Client(base_url=turns.pop(0), timeout=60) as client:
        location = begin(client, NAME)
    for start in range(0, len(content), CHUNK):
        with httpx.Client(timeout=60) as client:
            piece = content[start : start + CHUNK]
            answer = patch(client, _at(turns.pop(0), location), piece, start=start if ranges else None)
            assert answer.status_code == 202, answer.text
            assert answer.headers["Range"] == f"0-{start + len(piece) - 1}"
            location = answer.headers["Location"]
    with httpx.Client(timeout=60) as client:
        answer = finish(client, _at(turns.pop(0), location), Digest.of(content))
        assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("ranges", [True, False], ids=["chunks with Content-Range", "a stream without"])
def test_chunks_alternate_between_two_servers(tmp_path: Path, *, ranges: bool) -> None:
    path = profile(tmp_path, tmp_path / "store")
    (one, first), (two, second) = serving(path), serving(path)
    with one, two:
        push_alternating([first, second], CONTENT, ranges=ranges)
        for url in (first, second):
            assert httpx.get(f"{url}/v2/{NAME}/blobs/{Digest.of(CONTENT)}").content == CONTENT


@pytest.mark.parametrize("ranges", [True, False], ids=["chunks with Content-Range", "a stream without"])
def test_chunks_alternate_between_hosts_that_see_each_other_late(tmp_path: Path, *, ranges: bool) -> None:
    """Although the operator has declared the caches to be turned off."""
    with two_hosts(tmp_path) as hosts:
        Store.open(tmp_path / "shared/store")
        paths = [profile(tmp_path, host / "store", "uncached") for host in hosts]
        (one, first), (two, second) = (serving(path) for path in paths)
        with one, two:
            for number in range(3):
                content = CONTENT + bytes([number])
                push_alternating([first, second], content, ranges=ranges)
                blob = tmp_path / "shared/store/blobs/sha256"
                digest = Digest.of(content)
                assert (blob / digest.hex[:2] / digest.hex).read_bytes() == content


def _send_half(url: str, location: str, written: Callable[[], bool]) -> socket.socket:
    """A chunk of which one half arrives; returns when the server has written some of it."""
    host, _, port = urlsplit(url).netloc.partition(":")
    sent = socket.create_connection((host, int(port)), timeout=30)
    target = urlsplit(_at(url, location))
    head = f"PATCH {target.path}?{target.query} HTTP/1.1\r\nHost: {host}\r\n"
    head += f"Content-Length: {2 * HALF}\r\nContent-Range: {CHUNK}-{CHUNK + 2 * HALF - 1}\r\n\r\n"
    sent.sendall(head.encode() + b"x" * HALF)
    wait_for(written)
    return sent


def test_a_server_is_killed_in_mid_chunk_and_the_other_goes_on_from_what_was_acknowledged(
    tmp_path: Path,
) -> None:
    """It hashes again what the other one has received."""
    path = profile(tmp_path, tmp_path / "store")
    (one, first), (two, second) = serving(path), serving(path)
    with one, two:
        with httpx.Client(base_url=first, timeout=60) as client:
            answer = patch(client, begin(client, NAME), CONTENT[:CHUNK], start=0)
            location = answer.headers["Location"]
        session = urlsplit(location).path.rpartition("/")[2]
        data = tmp_path / "store/uploads" / session / "data"
        with _send_half(first, location, lambda: data.stat().st_size > CHUNK):
            one.kill()
        with httpx.Client(timeout=60) as client:
            assert client.get(_at(second, location)).headers["Range"] == f"0-{CHUNK - 1}"
            for start in range(CHUNK, len(CONTENT), CHUNK):
                answer = patch(client, _at(second, location), CONTENT[start : start + CHUNK], start=start)
                assert answer.status_code == 202, answer.text
            assert finish(client, _at(second, location), Digest.of(CONTENT)).status_code == 201
            assert client.get(f"{second}/v2/{NAME}/blobs/{Digest.of(CONTENT)}").content == CONTENT
    assert list((tmp_path / "store/uploads").iterdir()) == []


@pytest.mark.parametrize("client", ["skopeo", "crane", "oras", "regctl"])
def test_clients_come_back_with_what_they_were_told(tmp_path: Path, client: str) -> None:
    """On a shared file system a Location has a query, and the digest is added to it."""
    program = optional_program(client)
    with running_registry(tmp_path / "source") as source, two_hosts(tmp_path) as hosts:
        maker = source.maker("library/nginx")
        maker.tag(maker.image([layer("base", 300_000)]), "1")
        Store.open(tmp_path / "shared/store")
        server, url = serving(profile(tmp_path, hosts[0] / "store", "uncached"))
        with server:
            names = [f"{source.host}/library/nginx:1", f"{urlsplit(url).netloc}/{NAME}:1"]
            done = subprocess.run(
                COPY[client](program, *names), capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, done.stderr
            pushed = httpx.get(f"{url}/v2/{NAME}/manifests/1")
            assert pushed.content == source.client.get("/v2/library/nginx/manifests/1").content


COPY: dict[str, Callable[[str, str, str], list[str]]] = {
    "skopeo": lambda program, source, target: [
        program, "copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
        f"docker://{source}", f"docker://{target}",
    ],
    "crane": lambda program, source, target: [program, "copy", "--insecure", source, target],
    "oras": lambda program, source, target: [
        program, "cp", "--from-plain-http", "--to-plain-http", source, target,
    ],
    "regctl": lambda program, source, target: [
        program, "--host", f"reg={source.partition('/')[0]},tls=disabled",
        "--host", f"reg={target.partition('/')[0]},tls=disabled", "image", "copy", source, target,
    ],
}  # fmt: skip
