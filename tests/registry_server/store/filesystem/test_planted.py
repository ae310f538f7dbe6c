"""Planted links (oras CVE-2026-50163): they lead nowhere, and their neighbours stay."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.errors import BlobUnknown, ManifestUnknown, RepositoryUnknown
from registry_server.oci.reference import Tag
from registry_server.store.errors import StoreDamaged
from tests.registry_server.store.images import FOLDER_ONLY, image, layer, put_image, tag_image
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

pytestmark = FOLDER_ONLY  # a bucket has no links
LAYER = b"layer"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    return path


def test_a_link_in_the_pool_is_no_content_and_is_replaced(nginx: Repository, secret: Path) -> None:
    nginx.put_blob(layer(LAYER), LAYER)
    path = file_of(nginx, layer(LAYER).digest)
    path.unlink()
    path.symlink_to(secret)
    assert not nginx.has_blob(layer(LAYER).digest)
    with pytest.raises((BlobUnknown, RepositoryUnknown)):
        nginx.find_blob(layer(LAYER).digest)
    nginx.put_blob(layer(LAYER), LAYER)
    assert path.read_bytes() == LAYER
    assert secret.read_bytes() == b"secret"


def test_a_link_in_the_place_of_a_manifest_is_not_read(nginx: Repository, secret: Path) -> None:
    tag_image(nginx, "1", LAYER)
    path = file_of(nginx, Tag("1"))
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(ManifestUnknown):
        nginx.read_manifest(Tag("1"))


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "dangling"])
def test_what_is_planted_among_incoming_blobs_is_not_written_to(
    store: Store, nginx: Repository, secret: Path, kind: str
) -> None:
    path = store.root / "incoming" / layer(LAYER).digest.replace(":", "-")
    if kind == "symlink":
        path.symlink_to(secret)
    elif kind == "hard link":
        path.hardlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(secret.with_name("made by the attacker"))
    with nginx.receive_blob(layer(LAYER)) as incoming:
        assert incoming.offset == 0
        incoming.write(LAYER)
        incoming.commit()
    assert file_of(nginx, layer(LAYER).digest).read_bytes() == LAYER
    assert secret.read_bytes() == b"secret"
    assert sorted(each.name for each in secret.parent.iterdir()) == ["secret", "store"]


def test_a_folder_among_incoming_blobs_is_told(store: Store, nginx: Repository) -> None:
    (store.root / "incoming" / layer(LAYER).digest.replace(":", "-")).mkdir()
    with pytest.raises(StoreDamaged, match="remove that file"), nginx.receive_blob(layer(LAYER)):
        pass


def test_a_link_among_tags_is_no_tag_and_is_replaced(store: Store, nginx: Repository, secret: Path) -> None:
    tag_image(nginx, "good", LAYER)
    folder = store.root / "repos/library/nginx/_r/tags"
    (folder / "bad").symlink_to(folder / "good")
    (folder / "folder").mkdir()
    assert nginx.tag(Tag("bad")) is None
    assert list(nginx.tag_records()) == ["good"]
    with pytest.raises(ManifestUnknown):
        nginx.find_manifest(Tag("bad"))
    tag_image(nginx, "bad", b"other")
    assert not (folder / "bad").is_symlink()
    assert nginx.find_manifest(Tag("good")).descriptor.digest == image(LAYER).descriptor().digest


@pytest.mark.parametrize("folder", ["tags", "referrers"])
def test_a_link_in_the_place_of_a_folder_is_empty(
    store: Store, nginx: Repository, other: Repository, folder: str
) -> None:
    tag_image(other, "1", LAYER)
    other.put_manifest(image(subject=image(LAYER).descriptor().to_json()))
    put_image(nginx, LAYER)
    nginx.put_manifest(image(subject=image(LAYER).descriptor().to_json()))
    there = store.root / "repos/library/other/_r" / folder
    here = store.root / "repos/library/nginx/_r" / folder
    if here.exists():
        here.rename(here.with_name("away"))
    here.symlink_to(there)
    assert nginx.tags() == []
    assert nginx.tag_records() == {}


def test_a_planted_marker_is_no_right(
    store: Store, nginx: Repository, other: Repository, secret: Path
) -> None:
    nginx.put_blob(layer(LAYER), LAYER)
    put_image(other)
    marker = store.root / "repos/library/other/_r/blobs" / layer(LAYER).digest.replace(":", "-")
    marker.symlink_to(secret)
    assert not other.has_blob(layer(LAYER).digest)
    assert other.adopt_blob(layer(LAYER).digest)
    assert not marker.is_symlink()


def test_a_link_to_a_folder_among_repositories_is_not_followed(store: Store, nginx: Repository) -> None:
    put_image(nginx)
    (store.root / "repos" / "loop").symlink_to(store.root / "repos")
    assert store.repositories() == ["library/nginx"]
