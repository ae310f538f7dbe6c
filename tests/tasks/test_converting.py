"""`convert: oci` and `platforms.rewrite` in polled mode, over a real upstream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from tests.support_misbehaving import misbehaving
from tests.tasks.docker_images import add_docker_image, add_docker_list
from tests.tasks.runs import asked, assert_complete, store_of, sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
TAG = Tag("1.25")
CONVERT: dict[str, Any] = {"images": [f"{NAME}:1.25"], "convert": "oci"}


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        yield found


def repository(folder: Path) -> Repository:
    return store_of(folder).repository(RepositoryName(NAME))


def tagged(folder: Path) -> TagRecord:
    record = repository(folder).tag(TAG)
    assert record is not None
    return record


def document(folder: Path, reference: Tag | Digest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(repository(folder).read_manifest(reference)[1])
    return found


def test_a_tag_names_the_converted_image_and_the_original_stays_beside_it(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    original = add_docker_image(upstream, NAME, "1.25")
    report = sync(tmp_path, upstream, CONVERT)
    assert report.complete, report.images
    record = tagged(tmp_path)
    assert record.converted_from == original.digest != record.digest
    assert record.media_type == media_types.OCI_MANIFEST
    before, after = document(tmp_path, original.digest), document(tmp_path, TAG)
    assert after["config"] == before["config"] | {"mediaType": media_types.OCI_CONFIG}
    assert [each["digest"] for each in after["layers"]] == [each["digest"] for each in before["layers"]]
    assert {each["mediaType"] for each in after["layers"]} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert_complete(store_of(tmp_path), f"{NAME}:1.25")


def test_a_second_poll_is_one_head(upstream: Misbehaving, tmp_path: Path) -> None:
    add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    sync(tmp_path, upstream, CONVERT)
    asked(upstream)
    report = sync(tmp_path, upstream, CONVERT)
    assert report.unchanged == 1
    assert asked(upstream) == {"HEAD manifests": 1}


def test_children_come_first_and_each_original_can_be_had_by_its_digest(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    original = add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    assert sync(tmp_path, upstream, CONVERT).complete
    index = document(tmp_path, TAG)
    assert index["mediaType"] == media_types.OCI_INDEX
    for entry in index["manifests"]:
        assert entry["mediaType"] == media_types.OCI_MANIFEST
        assert "features" not in entry["platform"]
        body = repository(tmp_path).read_manifest(Digest(entry["digest"]))[1]
        assert len(body) == entry["size"]
    for digest in (
        original.digest,
        *(each["digest"] for each in document(tmp_path, original.digest)["manifests"]),
    ):
        held = repository(tmp_path).find_manifest(Digest(digest))
        assert held.descriptor.media_type.startswith("application/vnd.docker.")


def test_what_was_lost_of_the_converted_image_is_found_missing(upstream: Misbehaving, tmp_path: Path) -> None:
    pass
