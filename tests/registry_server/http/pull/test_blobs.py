"""Blobs by GET and HEAD from a running server (distribution-spec, "Pulling blobs"; RFC 9110, 14)."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from registry_server.http.pull.file_response import CHUNK_BYTES
from registry_server.oci.digest import Digest
from tests.support.registries import put_blob

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from tests.support.registries import Registry

# Not a multiple of a chunk, and no two chunks alike.
CONTENT = bytes((position * 7 + (position >> 8)) % 251 for position in range(3 * CHUNK_BYTES + 1234))
SIZE = len(CONTENT)
REPOSITORY = "library/blobs"


@pytest.fixture(scope="module")
def blob(registry: Registry) -> Descriptor:
    return put_blob(registry.store, REPOSITORY, CONTENT)


@pytest.fixture(scope="module")
def url(blob: Descriptor) -> str:
    return f"/v2/{REPOSITORY}/blobs/{blob.digest}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_is_served_with_all_that_clients_trust(
    registry: Registry, url: str, blob: Descriptor, method: str
) -> None:
    answer = registry.client.request(method, url)
    assert answer.status_code == 200
    assert answer.content == (CONTENT if method == "GET" else b"")
    expected = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(SIZE),
        "Docker-Content-Digest": blob.digest,
        "ETag": f'"{blob.digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000, immutable",
    }
    assert {name: answer.headers[name] for name in expected} == expected


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20 * CHUNK_BYTES])
def test_blobs_around_the_size_of_a_chunk_are_whole(registry: Registry, size: int) -> None:
    content = b"x" * size
    made = put_blob(registry.store, REPOSITORY, content)
    answer = registry.client.get(f"/v2/{REPOSITORY}/blobs/{made.digest}")
    assert answer.headers["Content-Length"] == str(size)
    assert answer.content == content


def test_a_blob_that_is_not_in_the_page_cache_is_whole(registry: Registry) -> None:
    content = CONTENT * 3
    made = put_blob(registry.store, REPOSITORY, content)
    path = registry.store.root / "blobs/sha256" / made.digest.hex[:2] / made.digest.hex
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert registry.client.get(f"/v2/{REPOSITORY}/blobs/{made.digest}").content == content


def test_a_blob_answers_to_the_digest_that_was_asked_for(registry: Registry) -> None:
    made = put_blob(registry.store, REPOSITORY, CONTENT, "sha512")
    answer = registry.client.get(f"/v2/{REPOSITORY}/blobs/{made.digest}")
    assert answer.headers["Docker-Content-Digest"] == Digest.of(CONTENT, "sha512")


@pytest.mark.parametrize(
    ("header", "part"),
    [
        pytest.param("bytes=500-1499", slice(500, 1500), id="both-ends"),
        pytest.param("bytes=500-", slice(500, SIZE), id="from"),
        pytest.param("bytes=-500", slice(SIZE - 500, SIZE), id="suffix"),
        pytest.param("bytes=0-0", slice(0, 1), id="first-byte"),
        pytest.param(f"bytes={SIZE - 1}-", slice(SIZE - 1, SIZE), id="last-byte"),
        pytest.param(f"bytes=2000-{SIZE * 2}", slice(2000, SIZE), id="end-is-cut"),
        pytest.param(f"bytes=-{SIZE * 2}", slice(0, SIZE), id="suffix-longer-than-all"),
        pytest.param(
            f"bytes={CHUNK_BYTES - 1}-{2 * CHUNK_BYTES}",
            slice(CHUNK_BYTES - 1, 2 * CHUNK_BYTES + 1),
            id="chunks",
        ),
    ],
)
def test_a_range_is_exactly_its_bytes(registry: Registry, url: str, header: str, part: slice) -> None:
    answer = registry.client.get(url, headers={"Range": header})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {part.start}-{part.stop - 1}/{SIZE}"
    assert answer.headers["Content-Length"] == str(part.stop - part.start)
    assert answer.content == CONTENT[part]


@pytest.mark.parametrize("header", ["bytes=500-0", f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE * 2}", "bytes=-0"])
def test_a_range_outside_is_416_and_says_the_size(registry: Registry, url: str, header: str) -> None:
    answer = registry.client.get(url, headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"


@pytest.mark.parametrize("header", ["bytes=0-1,5-9", "bytes=" + "0-1," * 2000, "items=0-1", "bytes=x-y"])
def test_what_is_no_single_range_gives_the_whole_blob(registry: Registry, url: str, header: str) -> None:
    answer = registry.client.get(url, headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_a_range_of_content_that_the_client_did_not_begin_with_gives_the_whole_blob(
    registry: Registry, url: str, blob: Descriptor
) -> None:
    same = registry.client.get(url, headers={"Range": "bytes=5-9", "If-Range": f'"{blob.digest}"'})
    other = registry.client.get(url, headers={"Range": "bytes=5-9", "If-Range": f'"{Digest.of(b"")}"'})
    assert (same.status_code, other.status_code) == (206, 200)


def test_head_ignores_ranges(registry: Registry, url: str) -> None:
    answer = registry.client.head(url, headers={"Range": "bytes=5-9"})
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(SIZE))


def test_a_client_that_has_it_gets_304(registry: Registry, url: str, blob: Descriptor) -> None:
    answer = registry.client.get(url, headers={"If-None-Match": f'"{blob.digest}"'})
    assert (answer.status_code, answer.content) == (304, b"")


def test_bodies_are_never_compressed(registry: Registry) -> None:
    made = put_blob(registry.store, REPOSITORY, b"0" * 100_000)
    headers = {"Accept-Encoding": "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"}
    answer = registry.client.get(f"/v2/{REPOSITORY}/blobs/{made.digest}", headers=headers)
    assert "Content-Encoding" not in answer.headers
    assert answer.headers["Content-Length"] == "100000"


def test_knowing_a_digest_is_no_right_to_it(registry: Registry, blob: Descriptor) -> None:
    put_blob(registry.store, "library/neighbour", b"something else")
    registry.maker("library/neighbour").image([])
    for method in ("GET", "HEAD"):
        answer = registry.client.request(method, f"/v2/library/neighbour/blobs/{blob.digest}")
        assert answer.status_code == 404
    answer = registry.client.get(f"/v2/library/neighbour/blobs/{blob.digest}")
    assert answer.json()["errors"][0]["code"] == "BLOB_UNKNOWN"


def test_manifests_are_blobs_too(registry: Registry) -> None:
    made = registry.maker(REPOSITORY).image([])
    answer = registry.client.get(f"/v2/{REPOSITORY}/blobs/{made.digest}")
    assert Digest.of(answer.content) == made.digest


def test_a_planted_link_is_not_followed(registry: Registry) -> None:
    made = put_blob(registry.store, REPOSITORY, b"a file that will be a link")
    path = registry.store.root / "blobs/sha256" / made.digest.hex[:2] / made.digest.hex
    path.unlink()
    path.symlink_to("/etc/passwd")
    answer = registry.client.get(f"/v2/{REPOSITORY}/blobs/{made.digest}")
    assert answer.status_code >= 400
    assert "root:" not in answer.text


def test_a_client_that_goes_away_stops_the_loop(registry: Registry) -> None:
    size = 512 * 1024 * 1024  # a busy machine hears late that a client left
    made = put_blob(registry.store, REPOSITORY, bytes(size))
    host, _, port = registry.host.partition(":")
    registry.requests.new()
    with socket.create_connection((host, int(port))) as connection:
        path = f"/v2/{REPOSITORY}/blobs/{made.digest}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {registry.host}\r\n\r\n".encode())
        connection.recv(1000)
    # A request on the same server ends after the loop was told, because both share one event loop.
    record = _record_of(registry, path)
    assert record["complete"] is False
    assert record["bytes"] < size


def test_a_file_that_is_too_short_breaks_the_connection(registry: Registry) -> None:
    """Bytes that are missing must never look like a complete answer."""
    made = put_blob(registry.store, REPOSITORY, bytes(200 * CHUNK_BYTES))
    path = registry.store.root / "blobs/sha256" / made.digest.hex[:2] / made.digest.hex
    url = f"/v2/{REPOSITORY}/blobs/{made.digest}"
    with registry.client.stream("GET", url) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.truncate(CHUNK_BYTES)
        with pytest.raises(httpx.RemoteProtocolError):
            list(chunks)


def _record_of(registry: Registry, path: str) -> dict[str, Any]:
    """The log's line for `path`; other requests are made until it is there."""
    for _ in range(2000):
        registry.client.get("/v2/")
        for record in registry.requests.new():
            if record["target"] == path:
                return record
    pytest.fail(f"the server still sends {path}")
