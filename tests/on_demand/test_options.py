"""What the keys of an entry make of misses: in the background, so many at once, not for ever."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.answers import Miss, Refusal, TheManifest
from tests.on_demand.mirrors import document, minding, mirroring
from tests.support_misbehaving import Misbehaving, misbehaving, well_behaved
from tests.tasks.runs import assert_complete, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = RepositoryName("library/nginx")


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def test_in_the_background_the_first_question_is_answered_at_once(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    upstream.add_image(NAME, "1", layers=(b"layer",))
    asked, go_on = threading.Event(), threading.Event()

    def waits(exchange: Any) -> None:
        asked.set()
        go_on.wait(20)
        well_behaved(exchange)

    upstream.on(f"/v2/{NAME}/manifests/1", waits)
    with mirroring(tmp_path, document(f"http://{upstream.host}", onDemandInBackground=True)) as mirror:
        path = f"/v2/{NAME}/manifests/1"
        missing = mirror.client.get(path)
        assert missing.status_code == 404
        assert "being fetched" in missing.json()["errors"][0]["message"]
        assert asked.wait(20)
        assert mirror.client.get(path).status_code == 404
        go_on.set()
        mirror.work.wait()
        assert mirror.client.get(path).status_code == 200
        mirror.work.wait()
        assert_complete(mirror.store, f"{NAME}:1")
    assert len(upstream.requests("GET", "/manifests/1")) == 1


def test_no_more_blobs_than_allowed_are_streamed_at_once(tmp_path: Path, upstream: Misbehaving) -> None:
    layers = tuple(f"layer {number}".encode() for number in range(6))
    upstream.add_image(NAME, "1", layers=layers)
    now, most, lock = [0], [0], threading.Lock()

    def counts(exchange: Any) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        well_behaved(exchange)

    for content in layers:
        upstream.on(f"/v2/{NAME}/blobs/{Digest.of(content)}", counts)
    entry = document(f"http://{upstream.host}", maxConcurrentStreams=2)
    with minding(tmp_path, entry) as (_, service, store, work):
        assert isinstance(service.answer(Miss("manifest", NAME, Tag("1")), 20), TheManifest)
        work.wait()
        assert_complete(store, f"{NAME}:1")
    assert most == [2]


def test_an_operation_that_takes_too_long_ends_and_the_next_one_goes_on_from_there(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    large = b"x" * 3_000_000
    upstream.add_image(NAME, "1", layers=(large,))
    path = f"/v2/{NAME}/blobs/{Digest.of(large)}"

    def trickles(exchange: Any) -> None:
        exchange.answer(200, b"", {"Content-Length": str(len(large))})
        for start in range(0, len(large), 100_000):
            exchange.write(large[start : start + 100_000])
            time.sleep(0.05)

    upstream.on(path, trickles, well_behaved)
    entry = document(f"http://{upstream.host}", syncTimeout="500ms")
    with minding(tmp_path, entry) as (_, service, store, work):
        assert isinstance(service.answer(Miss("manifest", NAME, Tag("1")), 20), TheManifest)
        work.wait()
        assert visible(store) == []
        service.answer(Miss("manifest", NAME, Tag("1")), 20)
        work.wait()
        assert_complete(store, f"{NAME}:1")
    assert "range" in upstream.requests("GET", path)[-1].headers


def test_a_mirror_that_is_its_own_upstream_answers_from_what_it_has(tmp_path: Path) -> None:
    """By a name that the profile cannot know to be its own."""
    with misbehaving() as door:
        with mirroring(tmp_path, document(f"http://{door.host}")) as mirror:
            door.on(f"/v2/{NAME}/manifests/1", _handed_to(mirror.url))
            missing = mirror.client.get(f"/v2/{NAME}/manifests/1")
        assert missing.status_code == 404
        assert len(door.seen) == 1


def test_mirrors_of_one_another_do_not_wait_for_one_another(tmp_path: Path) -> None:
    with (
        misbehaving() as door,
        mirroring(tmp_path / "a", document(f"http://{door.host}")) as first,
        mirroring(tmp_path / "b", document(first.url)) as second,
    ):
        door.on(f"/v2/{NAME}/manifests/1", _handed_to(second.url))
        assert first.client.get(f"/v2/{NAME}/manifests/1").status_code == 404
        assert second.client.get(f"/v2/{NAME}/manifests/2").status_code == 404


def _handed_to(url: str) -> Any:
    """A proxy before a server, which hands on what it gets."""
    import httpx

    def behave(exchange: Any) -> None:
        headers = {name: value for name, value in exchange.seen.headers.items() if name != "host"}
        got = httpx.request(exchange.seen.method, f"{url}{exchange.seen.target}", headers=headers, timeout=30)
        exchange.answer(got.status_code, got.content, {"Content-Type": got.headers.get("Content-Type", "")})

    return behave


VHOSTS = {"http": {"vhosts": {"docker.mirror.example": "registry1"}}}


def test_a_host_of_its_own_has_the_names_of_one_registry(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image(NAME, "1", layers=(b"layer",))
    content = [{"prefix": "library/*", "destination": "/hub"}]
    entry = document(f"http://{upstream.host}", content=content, tagListing="upstream")
    with mirroring(tmp_path, entry, more=VHOSTS) as mirror:

        def get(path: str, host: str, method: str = "GET") -> Any:
            return mirror.client.request(method, f"/v2/{path}", headers={"Host": host})

        assert get(f"{NAME}/manifests/1", "docker.mirror.example").content == image.body
        assert get(f"{NAME}/manifests/1", "DOCKER.mirror.example:443").content == image.body
        layer = f"{NAME}/blobs/{image.layers[0].digest}"
        assert get(layer, "docker.mirror.example").content == b"layer"
        listed = get(f"{NAME}/tags/list", "docker.mirror.example").json()
        assert listed == {"name": NAME, "tags": ["1"]}
        assert get(f"hub/{NAME}/manifests/1", "docker.mirror.example").status_code == 404
        assert get(f"{NAME}/manifests/1", "docker.mirror.example", "PUT").status_code == 405
        asked = len(upstream.seen)
        for host in ("other.example", "docker.mirror.example.evil", "", "a b", "x" * 5000, "[::1]:80"):
            assert get(f"{NAME}/manifests/1", host).status_code in (400, 404)
        assert len(upstream.seen) == asked


def test_docker_asks_for_names_of_its_hub_at_the_root(tmp_path: Path, upstream: Misbehaving) -> None:
    """`registry-mirrors`: no prefix, no `ns`."""
    image = upstream.add_image(NAME, "1", layers=(b"layer",))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        assert mirror.client.get("/v2/").status_code == 200
        assert mirror.client.get(f"/v2/{NAME}/manifests/1").content == image.body


def test_what_a_client_names_is_remembered_by_name_only(tmp_path: Path) -> None:
    with minding(tmp_path, document("http://r:5000", content=[{"prefix": "a/*"}])) as (_, service, *_):
        got = service.answer(Miss("referrers", NAME, Digest.of(b"x")), 1)
    assert not isinstance(got, Refusal)
