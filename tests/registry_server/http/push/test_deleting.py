"""Deleting, and blobs of other repositories: what goes, what stays, and who holds what."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from tests.registry_server.http.pushing import code, image, index, push_blob, push_image, put_manifest
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry

ALGORITHMS = ["sha256", "sha512"]
NOWHERE = Digest.of(b"nowhere")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One that can be written to."""
    with running_registry(tmp_path_factory.mktemp("registry"), writable=True) as found:
        yield found


def _image(registry: Registry, text: str, name: str = "a", **more: Any) -> bytes:
    """An image of its own, with its blobs pushed and itself not."""
    return image(
        push_blob(registry.client, b"{}", name), push_blob(registry.client, text.encode(), name), **more
    )


class TestDeleting:
    def test_a_tag_goes_and_its_manifest_stays(self, registry: Registry) -> None:
        body = push_image(registry.client, "gone", b"gone")
        assert registry.client.delete("/v2/a/manifests/gone").status_code == 202
        assert registry.client.get("/v2/a/manifests/gone").status_code == 404
        assert registry.client.get(f"/v2/a/manifests/{Digest.of(body)}").content == body
        assert code(registry.client.delete("/v2/a/manifests/gone")) == (404, "MANIFEST_UNKNOWN")

    def test_a_manifest_goes_with_all_tags_on_it(self, registry: Registry) -> None:
        body, other = push_image(registry.client, "one", b"two tags"), push_image(registry.client, "x", b"x")
        put_manifest(registry.client, body, "two")
        assert registry.client.delete(f"/v2/a/manifests/{Digest.of(body)}").status_code == 202
        for reference in ("one", "two", Digest.of(body)):
            assert registry.client.head(f"/v2/a/manifests/{reference}").status_code == 404
        assert registry.client.get("/v2/a/manifests/x").content == other
        assert registry.client.delete(f"/v2/a/manifests/{Digest.of(body)}").status_code == 404

    def test_a_manifest_and_its_sha512_twin_are_two(self, registry: Registry) -> None:
        body = _image(registry, "twin")
        for algorithm in ALGORITHMS:
            put_manifest(registry.client, body, Digest.of(body, algorithm), query=f"?tag=twin-{algorithm}")
        registry.client.delete(f"/v2/a/manifests/{Digest.of(body)}")
        assert registry.client.get("/v2/a/manifests/twin-sha256").status_code == 404
        assert registry.client.get("/v2/a/manifests/twin-sha512").content == body

    def test_a_blob_goes_from_its_repository_only(self, registry: Registry) -> None:
        blob = push_blob(registry.client, b"in two places", "here")
        push_blob(registry.client, b"in two places", "there")
        assert registry.client.delete(f"/v2/here/blobs/{blob.digest}").status_code == 202
        assert registry.client.head(f"/v2/here/blobs/{blob.digest}").status_code == 404
        assert registry.client.head(f"/v2/there/blobs/{blob.digest}").status_code == 200
        assert registry.client.delete(f"/v2/here/blobs/{blob.digest}").status_code == 404

    def test_what_a_tag_stands_on_is_deleted_after_it(self, registry: Registry) -> None:
        """A visible tag implies its whole closure: blobs, children, and their blobs."""
        child = push_image(registry.client, "child", b"deep down", name="whole")
        put_manifest(registry.client, index(child), "parent", "whole")
        registry.client.delete("/v2/whole/manifests/child")
        parts = [
            f"blobs/{Digest.of(b'deep down')}",
            f"blobs/{Digest.of(b'{}')}",
            f"manifests/{Digest.of(child)}",
        ]
        for part in parts:
            answer = registry.client.delete(f"/v2/whole/{part}")
            assert code(answer) == (405, "DENIED")
            assert "whole:parent" in answer.text
        registry.client.delete("/v2/whole/manifests/parent")
        for part in parts:
            assert registry.client.delete(f"/v2/whole/{part}").status_code == 202

    def test_deleting_needs_something_to_delete(self, registry: Registry) -> None:
        assert code(registry.client.delete(f"/v2/nobody/blobs/{NOWHERE}")) == (404, "NAME_UNKNOWN")
        assert code(registry.client.delete(f"/v2/nobody/manifests/{NOWHERE}")) == (404, "NAME_UNKNOWN")
        assert registry.client.delete("/v2/nobody/manifests/latest").status_code == 404


class TestMounting:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    @pytest.mark.parametrize("source", ["&from=source", ""])
    def test_a_blob_is_mounted(self, registry: Registry, source: str, algorithm: str) -> None:
        content = f"mounted {source} {algorithm}".encode()
        blob = push_blob(registry.client, content, "source", algorithm)
        answer = registry.client.post(f"/v2/target/blobs/uploads/?mount={blob.digest}{source}")
        assert answer.status_code == 201
        assert answer.headers["Docker-Content-Digest"] == blob.digest
        assert registry.client.get(answer.headers["Location"]).content == content
        again = registry.client.post(f"/v2/target/blobs/uploads/?mount={blob.digest}{source}")
        assert again.status_code == 201

    @pytest.mark.parametrize("source", ["&from=source", "&from=nobody", ""])
    def test_a_blob_that_is_not_there_is_uploaded_instead(self, registry: Registry, source: str) -> None:
        answer = registry.client.post(f"/v2/target/blobs/uploads/?mount={NOWHERE}{source}")
        assert answer.status_code == 202
        assert registry.client.delete(answer.headers["Location"]).status_code == 204

    def test_a_blob_that_was_deleted_is_not_mounted_from_there(self, registry: Registry) -> None:
        blob = push_blob(registry.client, b"deleted", "source")
        registry.client.delete(f"/v2/source/blobs/{blob.digest}")
        answer = registry.client.post(f"/v2/target/blobs/uploads/?mount={blob.digest}&from=source")
        assert answer.status_code == 202

    def test_a_source_that_cannot_be_is_refused(self, registry: Registry) -> None:
        answer = registry.client.post(f"/v2/target/blobs/uploads/?mount={NOWHERE}&from=../etc")
        assert code(answer) == (400, "NAME_INVALID")

    @pytest.mark.parametrize("source", ["&from=tools/a", ""])
    def test_between_storage_roots_it_is_copied(self, tmp_path: Path, source: str) -> None:
        content = bytes(3_000_000)
        with running_registry(tmp_path, writable=True, subpaths={"/tools": tmp_path / "tools"}) as registry:
            blob = push_blob(registry.client, content, "tools/a")
            answer = registry.client.post(f"/v2/b/blobs/uploads/?mount={blob.digest}{source}")
            assert answer.status_code == 201
            assert registry.client.get(f"/v2/b/blobs/{blob.digest}").content == content
            path = f"blobs/sha256/{blob.digest.hex[:2]}/{blob.digest.hex}"
            assert (tmp_path / "tools" / path).is_file()
            assert (registry.store.root / path).is_file()


def test_a_client_that_looks_for_a_blob_keeps_it_from_the_collector(registry: Registry) -> None:
    blob = push_blob(registry.client, b"looked for", "looked")
    marker = registry.store.root / "repos/looked/_r/blobs" / blob.digest.replace(":", "-")
    os.utime(marker, (0, 0))
    assert registry.client.head(f"/v2/looked/blobs/{blob.digest}").status_code == 200
    assert marker.stat().st_mtime > 0
    assert registry.client.head(f"/v2/looked/blobs/{NOWHERE}").status_code == 404
