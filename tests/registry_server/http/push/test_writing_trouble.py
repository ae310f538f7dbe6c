"""Disks that are full or read-only, as clients see them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from registry_server.http.push.push_limits import PushLimits
from registry_server.oci.digest import Digest
from tests.registry_server.http.pushing import begin, code, finish, patch, push_blob, push_image, put_manifest
from tests.registry_server.store.filesystem.disks import mounted, read_only
from tests.registry_server.store.images import check
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024 * 1024


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "store"
    root.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(root)):
        yield root


def test_a_disk_that_fills_up_is_told_and_comes_back(small: Path, tmp_path: Path) -> None:
    with running_registry(tmp_path, root=small, writable=True, limits=PushLimits(spare_bytes=0)) as registry:
        body = push_image(registry.client, "before", b"layer")
        location = begin(registry.client)
        answer = registry.client.patch(location, content=(os.urandom(MIB) for _ in range(32)))
        assert code(answer) == (507, "DENIED")
        assert str(small) not in answer.text
        assert registry.client.get("/v2/a/manifests/before").content == body
        assert registry.client.get(location).headers["Range"] == "0-0"
        assert registry.client.delete(location).status_code == 204
        push_image(registry.client, "after", os.urandom(MIB))
        assert check(registry.store) == 2


def test_what_is_kept_back_is_there_for_deleting(small: Path, tmp_path: Path) -> None:
    """The watermark refuses new bytes long before nothing works any more."""
    limits = PushLimits(spare_bytes=8 * MIB)
    with running_registry(tmp_path, root=small, writable=True, limits=limits) as registry:
        body = push_image(registry.client, "first", os.urandom(4 * MIB))
        location = begin(registry.client)
        answer = patch(registry.client, location, bytes(6 * MIB))
        assert code(answer) == (507, "DENIED")
        assert f"a reserve of {8 * MIB}" in answer.text
        (small / "filler").write_bytes(bytes(4 * MIB))
        assert code(put_manifest(registry.client, body, "second")) == (507, "DENIED")
        assert registry.client.delete("/v2/a/manifests/first").status_code == 202


def test_a_read_only_store_is_read(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with running_registry(tmp_path, root=root, writable=True) as registry:
        body = push_image(registry.client, "1.0", b"layer")
        push_blob(registry.client, b"more")
    with read_only(root), running_registry(tmp_path, root=root, writable=True) as registry:
        assert registry.client.get("/v2/a/manifests/1.0").content == body
        for answer in (
            registry.client.post("/v2/a/blobs/uploads/"),
            registry.client.delete(f"/v2/a/blobs/{Digest.of(b'more')}"),
            registry.client.delete("/v2/a/manifests/1.0"),
        ):
            assert answer.status_code == 500
            assert str(root) not in answer.text
        assert registry.client.get(f"/v2/a/blobs/{Digest.of(b'more')}").content == b"more"


def test_a_store_that_becomes_read_only_is_served_and_goes_on_where_it_was(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with running_registry(tmp_path, root=root, writable=True) as registry:
        client = registry.client
        body = push_image(client, "1.0", b"layer")
        location = begin(client)
        patch(client, location, b"first ")
        with read_only(root):
            assert client.get("/v2/a/manifests/1.0").content == body
            assert client.get(f"/v2/a/blobs/{Digest.of(b'layer')}").content == b"layer"
            assert client.get("/readyz").status_code == 200
            assert patch(client, location, b"second").status_code == 500
            assert put_manifest(client, body, "2.0").status_code == 500
        assert client.get(location).headers["Range"] == "0-5"
        assert patch(client, location, b"second").status_code == 202
        assert finish(client, location, Digest.of(b"first second")).status_code == 201
        assert client.get("/v2/a/tags/list").json()["tags"] == ["1.0"]
        assert check(registry.store) == 1
