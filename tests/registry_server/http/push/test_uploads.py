"""Pushing blobs, each way, and everything that a client may get wrong."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci.digest import Digest
from tests.registry_server.http.pushing import begin, code, finish, is_busy, patch, send_patch
from tests.registry_server.http.upload_ways import WAYS, at_once, post_put, put_stream, stream
from tests.support.registries import running_registry
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registry_server.http.upload_ways import Way
    from tests.support.registries import Registry

ALGORITHMS = ["sha256", "sha512"]
CONTENT = os.urandom(300_000)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One that can be written to."""
    with running_registry(tmp_path_factory.mktemp("registry"), writable=True) as found:
        yield found


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("way", WAYS)
def test_a_blob_comes_in_every_way(registry: Registry, way: Way, algorithm: str) -> None:
    content = CONTENT + os.urandom(8)
    digest = Digest.of(content, algorithm)
    answer = way(registry.client, digest, content)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Docker-Content-Digest"] == digest
    assert registry.client.get(answer.headers["Location"]).content == content
    head = registry.client.head(f"/v2/a/blobs/{digest}")
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))
    path = registry.store.root / "blobs" / algorithm / digest.hex[:2] / digest.hex
    assert path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("way", WAYS)
def test_wrong_content_never_becomes_a_blob(registry: Registry, way: Way) -> None:
    digest = Digest.of(os.urandom(8))
    assert code(way(registry.client, digest, CONTENT)) == (400, "DIGEST_INVALID")
    assert registry.client.head(f"/v2/a/blobs/{digest}").status_code == 404
    assert registry.client.get(f"/v2/other/blobs/{Digest.of(CONTENT)}").status_code == 404


@pytest.mark.parametrize("way", [at_once, post_put, stream, put_stream])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_is_a_blob_too(registry: Registry, way: Way, algorithm: str) -> None:
    digest = Digest.of(b"", algorithm)
    assert way(registry.client, digest, b"").status_code == 201
    assert registry.client.get(f"/v2/a/blobs/{digest}").content == b""


def test_a_post_without_a_body_announces_the_digest_only(registry: Registry) -> None:
    content = os.urandom(100)
    digest = Digest.of(content, "sha512")
    answer = registry.client.post(f"/v2/a/blobs/uploads/?digest={digest}")
    assert answer.status_code == 202
    assert finish(registry.client, answer.headers["Location"], digest, content).status_code == 201


@pytest.mark.parametrize("announced", ALGORITHMS)
@pytest.mark.parametrize("used", ALGORITHMS)
def test_an_announced_algorithm_is_a_hint(registry: Registry, announced: str, used: str) -> None:
    content = os.urandom(1000)
    location = begin(registry.client, query=f"?digest-algorithm={announced}")
    patch(registry.client, location, content)
    assert finish(registry.client, location, Digest.of(content, used)).status_code == 201


@pytest.mark.parametrize(
    "query",
    [
        "?digest-algorithm=md5", "?digest-algorithm=", "?digest=sha256:abc", "?digest=latest",
        f"?digest=sha1:{'0' * 40}", "?mount=sha256:abc&from=b",
    ],
)  # fmt: skip
def test_a_digest_that_is_none_is_refused_at_once(registry: Registry, query: str) -> None:
    assert code(registry.client.post(f"/v2/a/blobs/uploads/{query}")) == (400, "DIGEST_INVALID")


def test_the_last_request_needs_a_digest(registry: Registry) -> None:
    location = begin(registry.client)
    assert code(registry.client.put(location)) == (400, "DIGEST_INVALID")
    assert code(registry.client.put(f"{location}?digest=sha256:abc")) == (400, "DIGEST_INVALID")
    assert registry.client.get(location).status_code == 204


def test_a_session_says_how_far_it_is(registry: Registry) -> None:
    location = begin(registry.client)
    first = registry.client.get(location)
    assert (first.status_code, first.content, first.headers["Range"]) == (204, b"", "0-0")
    patch(registry.client, location, bytes(1000))
    second = registry.client.get(location, params={"digest": Digest.of(b"")})  # the suite leaves it there
    assert (second.status_code, second.headers["Range"]) == (204, "0-999")
    assert location.endswith(second.headers["Location"])
    assert location.endswith(second.headers["Docker-Upload-UUID"])


@pytest.mark.parametrize("start", [0, 500, 1001, 5000])
def test_a_chunk_out_of_order_is_416_and_the_session_goes_on(registry: Registry, start: int) -> None:
    content = os.urandom(2000)
    location = begin(registry.client)
    patch(registry.client, location, content[:1000], start=0)
    for answer in (
        patch(registry.client, location, content[:1000], start=start),
        finish(
            registry.client, location, Digest.of(content), content[:1000],
            **{"Content-Range": f"{start}-{start + 999}"},
        ),
    ):  # fmt: skip
        assert (answer.status_code, answer.headers["Range"]) == (416, "0-999")
        assert location.endswith(answer.headers["Location"])
    assert patch(registry.client, location, content[1000:], start=1000).status_code == 202
    assert finish(registry.client, location, Digest.of(content)).status_code == 201


@pytest.mark.parametrize(
    ("content_range", "expected"),
    [
        pytest.param("bytes 0-9/10", "BLOB_UPLOAD_INVALID", id="rfc-9110"),
        pytest.param("0-", "BLOB_UPLOAD_INVALID", id="open"),
        pytest.param("9-0", "BLOB_UPLOAD_INVALID", id="inverted"),
        pytest.param("a-b", "BLOB_UPLOAD_INVALID", id="letters"),
        pytest.param("0-²", "BLOB_UPLOAD_INVALID", id="superscript"),
        pytest.param(f"0-{'9' * 5000}", "BLOB_UPLOAD_INVALID", id="long"),
        pytest.param("0-8", "SIZE_INVALID", id="too-few"),
        pytest.param("0-10", "SIZE_INVALID", id="too-many"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_content_range_must_fit_its_body(
    registry: Registry, content_range: str, expected: str, *, streamed: bool
) -> None:
    location = begin(registry.client)
    body = iter([bytes(5), bytes(5)]) if streamed else bytes(10)
    answer = registry.client.patch(
        location, content=body, headers=[(b"Content-Range", content_range.encode())]
    )
    assert code(answer) == (400, expected)
    assert registry.client.get(location).headers["Range"] == "0-0"


def test_an_upload_can_be_cancelled(registry: Registry) -> None:
    location, content = begin(registry.client), os.urandom(1000)
    patch(registry.client, location, content)
    answer = registry.client.delete(location)
    assert (answer.status_code, answer.content) == (204, b"")
    for again in (
        registry.client.delete(location),
        registry.client.get(location),
        patch(registry.client, location, b"more"),
        finish(registry.client, location, Digest.of(content)),
    ):
        assert code(again) == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("session", ["unknown", "0" * 32, "..", "%2e%2e", "A" * 32, "0" * 33])
def test_a_session_that_never_was_is_unknown(registry: Registry, session: str) -> None:
    answer = registry.client.patch(f"/v2/a/blobs/uploads/{session}", content=b"content")
    assert answer.status_code in (400, 404)


def test_a_session_belongs_to_its_repository(registry: Registry) -> None:
    location = begin(registry.client, "a")
    elsewhere = location.replace("/v2/a/", "/v2/b/")
    assert code(patch(registry.client, elsewhere, b"content")) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert code(registry.client.delete(elsewhere)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert registry.client.get(location).status_code == 204


def test_a_finished_session_leaves_nothing_behind(registry: Registry) -> None:
    location = begin(registry.client)
    assert finish(registry.client, location, Digest.of(CONTENT), CONTENT).status_code == 201
    assert registry.client.get(location).status_code == 404
    session = location.rpartition("/")[2]
    assert not (registry.store.root / "uploads" / session).exists()


def test_other_methods_are_told_what_there_is(registry: Registry) -> None:
    answer = registry.client.post("/v2/a/manifests/latest")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, PUT, DELETE")
    answer = registry.client.put("/v2/a/tags/list")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert code(registry.client.post(f"/v2/a/blobs/uploads/{'0' * 32}")) == (405, "UNSUPPORTED")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param("Content-Length: 1000", bytes(500), id="content-length"),
        pytest.param("Transfer-Encoding: chunked", b"1f4\r\n" + bytes(500) + b"\r\n", id="chunked"),
        pytest.param("Transfer-Encoding: chunked", b"1f4\r\n" + bytes(300), id="in-a-chunk"),
    ],
)
def test_a_body_that_breaks_off_does_not_count(registry: Registry, head: str, body: bytes) -> None:
    location = begin(registry.client)
    patch(registry.client, location, b"before")
    send_patch(registry, location, head, body).close()
    # The session is free again once the server has noticed; until then this request waits its turn.
    answer = patch(registry.client, location, b" and after", start=6)
    assert answer.status_code == 202, answer.text
    assert finish(registry.client, location, Digest.of(b"before and after")).status_code == 201


def test_two_requests_on_one_session_take_turns(registry: Registry) -> None:
    """The one that comes first is slow; the other one waits, and is then told that it is late."""
    location = begin(registry.client)
    answers: list[httpx.Response] = []

    def come_second() -> None:
        chunk = {"Content-Range": "0-9"}
        answers.append(httpx.patch(location, content=b"0123456789", headers=chunk))

    second = threading.Thread(target=come_second)
    with send_patch(registry, location, "Content-Length: 10\r\nContent-Range: 0-9", b"01234") as first:
        wait_for(lambda: is_busy(registry, location))
        second.start()
        first.sendall(b"56789")
        assert b" 202 " in first.recv(4096)
    second.join()
    assert (answers[0].status_code, answers[0].headers["Range"]) == (416, "0-9")
    assert finish(registry.client, location, Digest.of(b"0123456789")).status_code == 201


def test_many_clients_push_the_same_blob(registry: Registry) -> None:
    content = os.urandom(2_000_000)
    digest = Digest.of(content)
    statuses: list[int] = []

    def push(name: str) -> None:
        with httpx.Client(base_url=registry.url, timeout=60) as client:
            statuses.append(finish(client, begin(client, name), digest, content).status_code)

    threads = [threading.Thread(target=push, args=(name,)) for name in ("a", "a", "b", "c")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert statuses == [201] * 4
    for name in "abc":
        assert registry.client.get(f"/v2/{name}/blobs/{digest}").content == content


def test_a_finished_upload_can_be_finished_again(registry: Registry) -> None:
    """A load balancer repeats a PUT whose server was killed before its answer."""
    client, content = registry.client, b"content that is pushed once"
    location = begin(client)
    assert patch(client, location, content).status_code == 202
    digest = Digest.of(content)
    for _ in range(2):
        answer = finish(client, location, digest)
        assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (201, digest)
    assert code(finish(client, location, Digest.of(b"another"))) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert code(finish(client, location, digest, content)) == (404, "BLOB_UPLOAD_UNKNOWN")
    elsewhere = location.replace("/v2/a/", "/v2/b/")
    assert code(finish(client, elsewhere, digest)) == (404, "BLOB_UPLOAD_UNKNOWN")
