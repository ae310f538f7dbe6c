"""The client against a registry that behaves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from tasks.upstream.errors import UpstreamError, UpstreamNotFound
from tasks.upstream.registry import _BRIEF
from tests.support_behaviours import answers, get_only
from tests.support_misbehaving import well_behaved
from tests.tasks.upstream.clients import FakeTime, client
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Exchange, Misbehaving

NAME = "library/nginx"
BIG = bytes(range(256)) * 4 * 4096 * 5 + b"end"  # 20 MiB and a bit: enough for the fast path


def test_an_image_is_listed_looked_at_and_fetched(upstream: Misbehaving) -> None:
    image = upstream.add_image(NAME, "1.25", layers=(b"one", BIG))
    with client(upstream) as registry:
        assert list(registry.repositories()) == [NAME]
        assert registry.tags(NAME) == ["1.25"]
        head = registry.head(NAME, "1.25")
        assert (head.digest, head.media_type, head.size) == (
            image.manifest.digest,
            media_types.OCI_MANIFEST,
            image.manifest.size,
        )
        fetched = registry.manifest(NAME, head.digest, expected=image.manifest)
        assert (fetched.body, fetched.media_type, fetched.digest) == (
            image.body,
            media_types.OCI_MANIFEST,
            image.manifest.digest,
        )
        for layer, content in zip(image.layers, (b"one", BIG), strict=True):
            sink = MemorySink()
            assert registry.blob(NAME, layer, sink) == len(content)
            assert sink.content == content


def test_an_unchanged_tag_costs_one_head_and_nothing_else(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    with client(upstream) as registry:
        for _ in range(3):
            registry.head(NAME, "1.25")
        assert registry.requests() == {"HEAD manifest": 3}
    assert [each.method for each in upstream.seen] == ["HEAD"] * 3


def test_requests_and_bytes_are_counted(upstream: Misbehaving) -> None:
    image = upstream.add_image(NAME, "1.25", layers=(b"12345",))
    with client(upstream) as registry:
        registry.tags(NAME)
        registry.manifest(NAME, "1.25")
        registry.blob(NAME, image.layers[0], MemorySink())
        assert registry.requests() == {"GET tags": 1, "GET manifest": 1, "GET blob": 1, "bytes": 5}


def test_an_empty_blob_is_fetched(upstream: Misbehaving) -> None:
    empty = upstream.add_blob(NAME, b"")
    with client(upstream) as registry:
        assert registry.blob(NAME, empty, MemorySink()) == 0
    assert upstream.requests("GET", "/blobs/")


def test_a_blob_that_is_whole_already_asks_for_nothing(upstream: Misbehaving) -> None:
    blob = upstream.add_blob(NAME, b"12345")
    with client(upstream) as registry:
        assert registry.blob(NAME, blob, MemorySink(b"12345")) == 0
    assert upstream.seen == []


@pytest.mark.parametrize("content", [b"0123456789" * 10, BIG], ids=["small", "fast path"])
def test_only_the_rest_of_a_blob_is_asked_for(upstream: Misbehaving, content: bytes) -> None:
    blob = upstream.add_blob(NAME, content)
    sink = MemorySink(content[:42])
    with client(upstream) as registry:
        assert registry.blob(NAME, blob, sink) == len(content) - 42
    assert sink.content == content
    assert upstream.seen[0].headers["range"] == "bytes=42-"
    assert sink.restarts == 0


def test_nobody_is_asked_for_compressed_bodies(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    with client(upstream) as registry:
        registry.tags(NAME)
    assert upstream.seen[0].headers["accept-encoding"] == "identity"


def test_no_cookie_is_kept(upstream: Misbehaving) -> None:
    upstream.on("/v2/library/nginx/tags/list", answers(200, b'{"tags": []}', Set_Cookie="session=1"))
    with client(upstream) as registry:
        registry.tags(NAME)
        registry.tags(NAME)
    assert all("cookie" not in each.headers for each in upstream.seen)


def test_the_path_of_a_url_stands_before_every_repository(upstream: Misbehaving) -> None:
    upstream.add_image("mirrors/alpine", "3")
    upstream.add_image("elsewhere/alpine", "3")
    with client(upstream, prefix="mirrors") as registry:
        assert list(registry.repositories()) == ["alpine"]
        assert registry.tags("alpine") == ["3"]


@pytest.mark.parametrize(
    ("repository", "reference"),
    [
        ("../etc", "1"),
        ("a//b", "1"),
        ("A", "1"),
        ("a", "../x"),
        ("a", "sha256:zz"),
        ("a", "x?y=1"),
        ("a", ""),
    ],
)
def test_names_that_break_the_grammar_never_reach_a_url(
    upstream: Misbehaving, repository: str, reference: str
) -> None:
    with client(upstream) as registry, pytest.raises(InvalidName):
        registry.head(repository, reference)
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("status", "heads"),
    [
        pytest.param(405, 1, id="405 is about the method"),
        pytest.param(501, 1, id="501 is about the method"),
        pytest.param(404, 3, id="404 may be about one tag"),
        pytest.param(500, 3, id="500 may pass"),
    ],
)
def test_heads_that_are_of_no_use_are_not_asked_for_ever(
    upstream: Misbehaving, status: int, heads: int
) -> None:
    image = upstream.add_image(NAME, "1.25")
    upstream.on(f"/v2/{NAME}/manifests/1.25", get_only(status))
    time = FakeTime()
    with client(upstream, time=time) as registry:
        assert {registry.head(NAME, "1.25").digest for _ in range(6)} == {image.manifest.digest}
        assert registry.requests() == {"HEAD manifest": heads, "GET manifest": 6}
        time.sleep(3601)  # a receiver runs for weeks, and registries are repaired
        upstream.on(f"/v2/{NAME}/manifests/1.25", well_behaved)
        for _ in range(2):
            registry.head(NAME, "1.25")
        assert registry.requests() == {"HEAD manifest": heads + 2, "GET manifest": 6}


def test_one_head_that_fails_does_not_turn_a_poll_into_gets(upstream: Misbehaving) -> None:
    """Docker Hub counts each of them as a pull."""
    upstream.add_image(NAME, "1.25")
    upstream.on(f"/v2/{NAME}/manifests/1.25", answers(500), well_behaved)
    with client(upstream) as registry:
        for _ in range(9):
            registry.head(NAME, "1.25")
        assert registry.requests() == {"HEAD manifest": 9, "GET manifest": 1}


@pytest.mark.parametrize("status", [401, 429])
def test_a_head_that_is_to_wait_or_to_log_in_is_not_asked_as_a_get(
    upstream: Misbehaving, status: int
) -> None:
    upstream.on(f"/v2/{NAME}/manifests/1.25", answers(status))
    with client(upstream) as registry, pytest.raises(UpstreamError, match=str(status)):
        registry.head(NAME, "1.25")
    assert upstream.requests("GET", "/manifests/") == []


@pytest.mark.parametrize("header", ["", "md5:1234", "sha256:short"])
def test_a_head_without_a_usable_digest_becomes_a_get(upstream: Misbehaving, header: str) -> None:
    image = upstream.add_image(NAME, "1.25")
    without = answers(200, image.body, Content_Type=media_types.OCI_MANIFEST, Docker_Content_Digest=header)
    upstream.on(f"/v2/{NAME}/manifests/1.25", without)
    with client(upstream) as registry:
        head = registry.head(NAME, "1.25")
    assert (head.digest, head.size) == (image.manifest.digest, len(image.body))


def test_a_manifest_that_upstream_names_by_sha512_keeps_that_name(upstream: Misbehaving) -> None:
    image = upstream.add_image(NAME, "1.25")
    digest = Digest.of(image.body, "sha512")
    upstream.on(
        f"/v2/{NAME}/manifests/1.25",
        answers(200, image.body, Content_Type=media_types.OCI_MANIFEST, Docker_Content_Digest=digest),
    )
    with client(upstream) as registry:
        assert registry.manifest(NAME, "1.25").digest == digest


def test_what_is_not_there_is_said_in_one_line(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    with client(upstream) as registry, pytest.raises(UpstreamNotFound) as caught:
        registry.manifest(NAME, "1.26")
    assert str(caught.value) == (
        f"{upstream.host}: library/nginx:1.26: 404 Not Found: MANIFEST_UNKNOWN: not here"
    )
    assert (caught.value.registry, caught.value.repository, caught.value.reference, caught.value.status) == (
        upstream.host,
        NAME,
        "1.26",
        404,
    )


def test_no_more_requests_than_allowed_are_in_flight(upstream: Misbehaving) -> None:
    image = upstream.add_image(NAME, "1.25")
    lock, now, most = threading.Lock(), 0, 0
    pair = threading.Barrier(2, timeout=5)

    def slow(exchange: Exchange) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        pair.wait()  # two at a time do get through
        with lock:
            now -= 1
        well_behaved(exchange)

    upstream.on(f"/v2/{NAME}/manifests/1.25", slow)
    with client(upstream, req_concurrent=2) as registry, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: registry.head(NAME, "1.25").digest, range(8)))
    assert found == [image.manifest.digest] * 8
    assert most == 2


def test_big_blobs_leave_a_slot_for_small_requests(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    blobs = [upstream.add_blob(NAME, bytes([number]) * (_BRIEF + 1)) for number in range(4)]
    arrived, polled = threading.Semaphore(0), threading.Event()

    def stuck(exchange: Exchange) -> None:
        arrived.release()
        polled.wait(5)
        well_behaved(exchange)

    for blob in blobs:
        upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", stuck)
    with client(upstream, req_concurrent=3) as registry, ThreadPoolExecutor(4) as pool:
        moves = [pool.submit(registry.blob, NAME, blob, MemorySink()) for blob in blobs]
        assert arrived.acquire(timeout=5)
        assert arrived.acquire(timeout=5)
        registry.head(NAME, "1.25")  # would wait for ever otherwise
        polled.set()
        assert [move.result() for move in moves] == [_BRIEF + 1] * 4


def test_small_blobs_take_every_slot(upstream: Misbehaving) -> None:
    blobs = [upstream.add_blob(NAME, bytes([number])) for number in range(3)]
    together = threading.Barrier(3)

    def beside(exchange: Exchange) -> None:
        together.wait(5)
        well_behaved(exchange)

    for blob in blobs:
        upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", beside)
    with client(upstream, req_concurrent=3) as registry, ThreadPoolExecutor(3) as pool:
        assert [*pool.map(lambda blob: registry.blob(NAME, blob, MemorySink()), blobs)] == [1] * 3


def _noting(connections: set[object], behaviour: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
    def noted(exchange: Exchange) -> None:
        connections.add(exchange._handler.client_address)
        behaviour(exchange)

    return noted


def test_one_connection_serves_many_heads(upstream: Misbehaving) -> None:
    """The answer to HEAD has no body, and its end has to be read all the same."""
    upstream.add_image(NAME, "1.25")
    connections = set[object]()
    upstream.on(f"/v2/{NAME}/manifests/1.25", _noting(connections, well_behaved))
    with client(upstream) as registry:
        for _ in range(5):
            registry.head(NAME, "1.25")
        registry.manifest(NAME, "1.25")
    assert len(connections) == 1


def test_a_redirect_does_not_cost_the_connection_that_it_came_on(upstream: Misbehaving) -> None:
    connections = set[object]()
    moved = answers(307, b"<html>over there</html>", Location="/moved")
    upstream.on(f"/v2/{NAME}/manifests/1.25", _noting(connections, moved))
    upstream.on("/moved", _noting(connections, answers(200, b"{}")))
    with client(upstream) as registry:
        for _ in range(3):
            registry.manifest(NAME, "1.25")
    assert len(connections) == 1


def test_a_redirect_whose_body_does_not_come_is_followed_all_the_same(upstream: Misbehaving) -> None:
    """It is not waited for as long as for a body that somebody wants."""

    def stuck(exchange: Exchange) -> None:
        answers(307, b"<ht", Location="/moved", Content_Length="23")(exchange)
        exchange.hang()

    upstream.on(f"/v2/{NAME}/manifests/1.25", stuck)
    upstream.on("/moved", answers(200, b"{}"))
    with client(upstream, read_timeout=3600) as registry:
        assert registry.manifest(NAME, "1.25").body == b"{}"
