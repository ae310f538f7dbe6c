"""Roots of their own, access control, fetching on demand and pushing, all in one server."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from registry_server.http.push.push_limits import PushLimits
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.gc.collector import collect
from registry_server.store.gc.retention import GcOptions
from registry_server.store.store import Store
from tests.registry_server.http.auth.support import AUTH, auth_of, guarded
from tests.registry_server.http.fetching import fetching
from tests.registry_server.http.pushing import push_blob, push_image
from tests.registry_server.store.gc.collecting import age
from tests.registry_server.store.images import check_closure, image
from tests.support.registries import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.registry_server.http.fetching import Fetching

CONTROL = """
accessControl:
  repositories:
    "tools/**":
      policies: [{users: [alice], actions: [read, create, update, delete]}]
    "team/**":
      policies: [{users: [alice, bob], actions: [read, create]}]
"""
LAYER = b"a layer from upstream"


@contextmanager
def _together(tmp_path: Path, **more: Any) -> Iterator[tuple[Registry, Fetching]]:
    """`tools/…` is in a root of its own, and alice's; `team/…` in the main one, and bob's too."""
    roots = {"/tools": tmp_path / "tools"}
    store = Store.open(tmp_path / "store", subpaths=roots, durability="none")
    with (
        fetching(store, tmp_path) as upstream,
        guarded(tmp_path, f"{AUTH}{CONTROL}", subpaths=roots, on_miss=upstream.options, **more) as found,
    ):
        upstream.upstream = {"tools/jq": {"1.7": LAYER}, "team/app": {"1": LAYER}}
        yield Registry(store, found.url, found.requests, found.client), upstream


def _statuses(client: httpx.Client, path: str) -> dict[str, int]:
    return {who: client.get(path, auth=auth_of(who)).status_code for who in ("alice", "bob", "")}


def test_what_is_missing_is_fetched_into_its_root_for_who_may_read_it(tmp_path: Path) -> None:
    with _together(tmp_path) as (registry, upstream):
        assert _statuses(registry.client, "/v2/tools/jq/manifests/1.7") == {"alice": 200, "bob": 404, "": 401}
        assert upstream.asked == ["tools/jq 1.7"]
        blob = f"/v2/tools/jq/blobs/{Digest.of(LAYER)}"
        assert _statuses(registry.client, blob) == {"alice": 200, "bob": 404, "": 401}
        assert (tmp_path / "tools/repos/tools/jq").is_dir()
        assert not (tmp_path / "store/repos/tools").exists()
        check_closure(registry.store.repository(RepositoryName("tools/jq")), Tag("1.7"))


def test_lists_show_what_a_caller_may_read_of_all_roots(tmp_path: Path) -> None:
    with _together(tmp_path) as (registry, upstream):
        for path in ("tools/jq/manifests/1.7", "team/app/manifests/1"):
            assert registry.client.get(f"/v2/{path}", auth=auth_of("alice")).status_code == 200
        seen = {
            who: registry.client.get("/v2/_catalog", auth=auth_of(who)).json()["repositories"]
            for who in ("alice", "bob")
        }
        assert seen == {"alice": ["team/app", "tools/jq"], "bob": ["team/app"]}
        assert len(upstream.asked) == 2


def test_a_mount_across_roots_copies_for_who_may_read_the_source(tmp_path: Path) -> None:
    with _together(tmp_path) as (registry, _):
        client, digest = registry.client, Digest.of(LAYER)
        client.get("/v2/tools/jq/manifests/1.7", auth=auth_of("alice"))
        mount = f"/v2/team/mounted/blobs/uploads/?mount={digest}&from=tools/jq"
        assert client.post(mount, auth=auth_of("bob")).status_code == 202  # as if it were not there
        assert client.post(mount, auth=auth_of("alice")).status_code == 201
        assert client.get(f"/v2/team/mounted/blobs/{digest}", auth=auth_of("bob")).content == LAYER
        copies = [*(tmp_path / "tools/blobs/sha256").glob(f"*/{digest.hex}")]
        copies += (tmp_path / "store/blobs/sha256").glob(f"*/{digest.hex}")
        assert len({path.stat().st_ino for path in copies}) == 2


def test_what_is_pushed_beside_what_is_fetched_survives_a_collection_of_both_roots(tmp_path: Path) -> None:
    with _together(tmp_path, limits=PushLimits(require_blobs=1)) as (registry, _):
        client = registry.client
        client.get("/v2/tools/jq/manifests/1.7", auth=auth_of("alice"))
        client.auth = auth_of("alice")
        push_image(client, "pushed", b"pushed", name="tools/jq")
        push_image(client, "pushed", b"pushed", name="team/app")
        push_blob(client, b"never named", "team/app")
        age(registry.store)
        hasty = GcOptions(settle=0.0)
        report = collect(registry.store, {tmp_path / "store": hasty, tmp_path / "tools": hasty})
        assert (report.problems, report.trashed) == ([], 1)
        for name, tags in (("tools/jq", ["1.7", "pushed"]), ("team/app", ["pushed"])):
            assert client.get(f"/v2/{name}/tags/list").json()["tags"] == tags
            for tag in tags:
                check_closure(registry.store.repository(RepositoryName(name)), Tag(tag))
        body = image(b"not here").body
        answer = client.put(
            "/v2/team/app/manifests/lacking", content=body, headers={"Content-Type": image().media_type}
        )
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
