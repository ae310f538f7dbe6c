"""How many requests another registry gets, and which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from tests.support.push_target import push_target
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.destinations.syncing import LAYER, assert_whole, sync_to

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NGINX = "library/nginx"
TAGS = [f"1.{number}" for number in range(6)]


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    """Six tags with a small layer each, and a large one that they share."""
    with misbehaving() as found:
        for tag in TAGS:
            found.add_image(NGINX, tag, layers=(LAYER, tag.encode()))
        yield found


def test_a_new_blob_is_two_requests_and_a_large_one_three_until_the_registry_has_mounted(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    with push_target() as target:
        assert sync_to(tmp_path, upstream, target).complete
        assert target.counts() == {
            "GET tags": 1,
            "HEAD blobs": 1,
            "POST uploads": 8,  # the large one, six small ones, the config
            "PUT uploads": 8,
            "PUT manifests": 6,
        }
        upstream.add_image("library/apache", "2", layers=(LAYER,))
        assert sync_to(tmp_path, upstream, target).complete
        assert target.counts()["HEAD blobs"] == 0  # the shared layer was mounted


@pytest.mark.parametrize("mounts", [True, False])
def test_a_large_blob_that_is_there_is_not_sent_although_nothing_is_remembered(
    tmp_path: Path, upstream: Misbehaving, *, mounts: bool
) -> None:
    with push_target(mounts=mounts) as target:
        sync_to(tmp_path / "one", upstream, target)
        before = target.received[NGINX]
        sync_to(tmp_path / "two", upstream, target)
        assert target.received[NGINX] - before < len(LAYER)


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        pytest.param({}, {"GET tags": 1}, id="no such repository"),
        pytest.param({"1.0": b"{}"}, {"GET tags": 1, "HEAD manifests": 1}, id="one of them is there"),
        pytest.param(
            {"0": b"{}", "1.0": b"{}"}, {"GET tags": 1, "HEAD manifests": 6}, id="the list has a further page"
        ),
    ],
)
def test_one_list_tells_which_of_many_tags_are_not_there(
    tmp_path: Path, upstream: Misbehaving, there: dict[str, bytes], asked: dict[str, int]
) -> None:
    with push_target(page=1) as target:
        media_type = "application/vnd.oci.image.manifest.v1+json"
        target.manifests[NGINX].update({tag: (media_type, body) for tag, body in there.items()})
        report = sync_to(tmp_path, upstream, target)
        found = target.counts()
    assert {kind: found[kind] for kind in ("GET tags", "HEAD manifests") if found[kind]} == asked
    left = {image.image for image in report.images if image.outcome == "left out"}
    assert left == ({f"{NGINX}:1.0"} if "1.0" in there else set())  # somebody else's


def test_a_registry_that_does_not_list_its_tags_is_asked_for_each(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    with push_target(lists_tags=False) as target:
        assert sync_to(tmp_path, upstream, target).complete
        assert target.counts()["HEAD manifests"] == len(TAGS)


def test_a_mount_that_did_not_happen_is_found_out_and_the_blob_is_sent(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """Some proxies answer a mount with 201 and forward nothing."""
    upstream.add_image("library/apache", "2", layers=(LAYER,))
    with push_target() as target:
        sync_to(tmp_path, upstream, target, {"prefix": NGINX})
        shared = Digest.of(LAYER)
        target.claims.add(shared)
        report = sync_to(tmp_path, upstream, target)
        assert report.complete
        assert_whole(target, "library/apache", "2")
        assert any("it is brought again" in note for note in report.notes)
