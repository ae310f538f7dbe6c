"""A push upstream is synced at once, polled or on demand, by the rules of the profile."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flows.receiver.push_notifications import PushReceiver
from registry_server.oci import media_types
from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.answers import Miss, Push
from tasks.on_demand.pushes import wishes_of
from tests.on_demand.mirrors import document, minding
from tests.registry_server.http.pushing import image, push_blob
from tests.support.docker_registry import running_docker_registry
from tests.support_misbehaving import Misbehaving, answers, misbehaving, well_behaved
from tests.tasks.runs import add_index, assert_complete, visible
from tests.tasks.test_verifying import APP, fill, policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.store.store import Store

NAME = RepositoryName("library/nginx")
RULES = [{"prefix": "library/*", "tags": {"regex": "1\\..*"}, "destination": "/here"}]


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def polled(upstream: Misbehaving, **more: Any) -> dict[str, Any]:
    return {
        "name": "polled",
        "urls": [f"http://{upstream.host}"],
        "pollInterval": "6h",
        "content": RULES,
        **more,
    }


def origin_is_on_demand(store: Store, repository: str, tag: str) -> bool:
    record = store.repository(RepositoryName(repository)).tag(Tag(tag))
    assert record is not None
    assert record.origin is not None
    return record.origin.on_demand


def test_what_is_polled_is_there_before_the_next_poll(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25", layers=(b"one",))
    upstream.add_image(NAME, "2.0", layers=(b"two",))
    with minding(tmp_path, polled(upstream)) as (_, service, store, work):
        assert service.pushed(Push(NAME, Tag("1.25"))) == 1
        assert service.pushed(Push(NAME, Tag("2.0"))) == 0  # no rule takes it
        assert service.pushed(Push(RepositoryName("other/nginx"), Tag("1.25"))) == 0
        work.wait()
        assert_complete(store, "here/library/nginx:1.25")
        assert not origin_is_on_demand(store, "here/library/nginx", "1.25")
        assert "publish_image library/nginx:1.25" in work.labels
        moved = upstream.add_image(NAME, "1.25", layers=(b"new",))
        service.pushed(Push(NAME, Tag("1.25")))
        work.wait()
        record = store.repository(RepositoryName("here/library/nginx")).tag(Tag("1.25"))
    assert record is not None
    assert record.digest == moved.manifest.digest
    assert not upstream.requests(path="/manifests/2.0")


def test_on_demand_the_whole_image_comes_and_is_what_clients_get(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    amd, arm = (upstream.add_image(NAME, tag, layers=(tag.encode(),)) for tag in ("amd", "arm"))
    add_index(upstream, NAME, "1", amd.manifest, arm.manifest)
    entry = document(f"http://{upstream.host}", manifestCheckInterval="1h")
    with minding(tmp_path, entry) as (_, service, store, work):
        first = service.answer(Miss("manifest", NAME, Tag("1")), 20)
        index = add_index(upstream, NAME, "1", arm.manifest, amd.manifest)
        assert service.pushed(Push(NAME, Tag("1"))) == 1
        work.wait()
        assert_complete(store, f"{NAME}:1")
        assert origin_is_on_demand(store, NAME, "1")
        asked = len(upstream.seen)
        assert service.answer(Miss("manifest", NAME, Tag("1")), 20).to_json()["outcome"] == "local"
        assert len(upstream.seen) == asked  # fresh
        record = store.repository(NAME).tag(Tag("1"))
    assert record is not None
    assert record.digest == index.digest != first.to_json()["digest"]


@pytest.mark.parametrize("failing", ["what the tag names", "its manifest", "its layer"])
def test_a_push_that_fails_does_not_make_the_old_tag_fresh(
    tmp_path: Path, upstream: Misbehaving, failing: str
) -> None:
    """The next client asks the upstream, as it would have without the push."""
    old = upstream.add_image(NAME, "1", layers=(b"old",)).manifest.digest
    entry = document(f"http://{upstream.host}", manifestCheckInterval="1h")
    with minding(tmp_path, entry) as (_, service, _, work):
        service.answer(Miss("manifest", NAME, Tag("1")), 20)
        work.wait()
    new = upstream.add_image(NAME, "1", layers=(b"new",))
    paths = {
        "what the tag names": f"/v2/{NAME}/manifests/1",
        "its manifest": f"/v2/{NAME}/manifests/{new.manifest.digest}",
        "its layer": f"/v2/{NAME}/blobs/{new.layers[0].digest}",
    }
    upstream.on(paths[failing], answers(500))
    with minding(tmp_path, entry) as (_, service, store, work):
        service.pushed(Push(NAME, Tag("1")))
        work.wait()
        record = store.repository(NAME).tag(Tag("1"))
        upstream.seen.clear()
        service.answer(Miss("manifest", NAME, Tag("1")), 20)
    assert record is not None
    assert record.digest == old
    assert upstream.requests(path="/manifests/1")


def test_many_pushes_of_a_tag_are_one_sync_and_one_more(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25", layers=(b"old",))
    asked, go_on = threading.Event(), threading.Event()

    def waits(exchange: Any) -> None:
        asked.set()
        go_on.wait(20)
        well_behaved(exchange)

    upstream.on(f"/v2/{NAME}/manifests/1.25", waits, well_behaved)
    with minding(tmp_path, polled(upstream)) as (_, service, store, work):
        service.pushed(Push(NAME, Tag("1.25")))
        assert asked.wait(20)
        new = upstream.add_image(NAME, "1.25", layers=(b"new",))
        for _ in range(20):
            service.pushed(Push(NAME, Tag("1.25")))
        go_on.set()
        work.wait()
        record = store.repository(RepositoryName("here/library/nginx")).tag(Tag("1.25"))
    assert record is not None
    assert record.digest == new.manifest.digest
    assert len(upstream.requests("HEAD", "/manifests/1.25")) == 2


def test_a_sync_that_fails_does_not_stand_in_the_way_of_the_next(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.on(f"/v2/{NAME}/tags/list", answers(503))
    with minding(tmp_path, polled(upstream)) as (_, service, store, work):
        service.pushed(Push(NAME, Tag("1.25")))
        work.wait()
        assert visible(store) == []
        upstream.on(f"/v2/{NAME}/tags/list", well_behaved)
        service.pushed(Push(NAME, Tag("1.25")))
        work.wait()
        assert visible(store) == ["here/library/nginx:1.25"]


def test_a_policy_holds_for_what_is_pushed(tmp_path: Path, upstream: Misbehaving) -> None:
    """Invariant 4."""
    fill(upstream)
    entry = polled(upstream, content=[{"prefix": "app"}])
    with minding(tmp_path, entry, more=policy(upstream)) as (_, service, store, work):
        for tag in ("signed", "unsigned"):
            assert service.pushed(Push(APP, Tag(tag))) == 1
        work.wait()
        assert "app:signed" in visible(store)
        assert "app:unsigned" not in visible(store)


ENTRIES: list[dict[str, Any]] = [
    {"name": "hub", "urls": ["https://docker.io"], "content": [{"prefix": "library/*"}]},
    {
        "name": "official",
        "urls": ["https://docker.io/library"],
        "content": [{"prefix": "**", "destination": "/d"}],
    },
    {"name": "cache", "urls": ["https://quay.io"], "onDemand": True},
]


@pytest.mark.parametrize(
    ("push", "found"),
    [
        pytest.param(
            Push(NAME, Tag("1")),
            ["hub library/nginx:1", "official d/nginx:1", "cache library/nginx:1"],
            id="whoever takes it",
        ),
        pytest.param(
            Push(NAME, Tag("1"), on_hub=True), ["hub library/nginx:1", "official d/nginx:1"], id="Docker Hub"
        ),
        pytest.param(Push(NAME, Tag("1"), "cache"), ["cache library/nginx:1"], id="by name"),
        pytest.param(Push(NAME, Tag("1"), "nobody"), [], id="by a name that nobody has"),
    ],
)
def test_a_push_is_for_the_entries_whose_rules_take_it(tmp_path: Path, push: Push, found: list[str]) -> None:
    with minding(tmp_path, *ENTRIES) as (profile, *_):
        wishes = list(wishes_of(profile.sync, push))
    assert [f"{each.entry.name} {name}" for each in wishes for name in each.names] == found


def test_docker_registry_tells_of_a_push_and_it_is_here(tmp_path: Path, docker_registry: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    secret = "sixteen or more characters"
    endpoint = {
        "name": "mirror",
        "url": f"http://127.0.0.1:{listener.getsockname()[1]}/pushes/distribution",
        "headers": {"Authorization": [f"Bearer {secret}"]},
        "timeout": "5s",
        "threshold": 5,
        "backoff": "1s",
    }
    root = tmp_path / "data"
    with running_docker_registry(docker_registry, tmp_path / "r", root=root, notify=endpoint) as registry:
        entry = {"name": "r", "urls": [registry.url], "pollInterval": "6h", "content": [{"prefix": "**"}]}
        with minding(tmp_path, entry) as (_, service, store, work):
            taken = threading.Event()

            def take(push: Push) -> int:
                number = service.pushed(push)
                taken.set()
                return number

            receiver = PushReceiver(listener, secret.encode(), take)
            threading.Thread(target=receiver.serve, daemon=True).start()
            try:
                _push(registry.url)
                assert taken.wait(20)
                work.wait()
                assert_complete(store, "team/app:v1")
            finally:
                receiver.close()


def _push(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        config, layer = (push_blob(client, content, "team/app") for content in (b"{}", b"a layer"))
        headers = {"Content-Type": media_types.OCI_MANIFEST}
        answer = client.put("/v2/team/app/manifests/v1", content=image(config, layer), headers=headers)
        assert answer.status_code == 201, answer.text
