"""Images that go to another registry: what arrives there, under which name, for how many requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.companion_tags import fallback_tag
from registry_server.oci.digest import Digest
from tests.support.push_target import PushTarget, push_target
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.destinations.syncing import LAYER, assert_whole, sync_to
from tests.tasks.runs import add_document, asked, store_of, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NGINX = "library/nginx"


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    """Two tags that share a layer."""
    with misbehaving() as found:
        found.add_image(NGINX, "1.25", layers=(LAYER, b"one"))
        found.add_image(NGINX, "1.26", layers=(LAYER, b"two"))
        yield found


@pytest.fixture
def target() -> Iterator[PushTarget]:
    with push_target() as found:
        yield found


def test_an_image_arrives_whole_and_the_store_has_none_of_it(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    report = sync_to(tmp_path, upstream, target)
    assert report.message == "2 of 2 images"
    for tag in ("1.25", "1.26"):
        assert target.tag(NGINX, tag) == Digest.of(upstream.repositories[NGINX].manifests[tag][1])
        assert_whole(target, NGINX, tag)
    store = store_of(tmp_path)
    assert visible(store) == []
    assert not [path for path in (store.root / "blobs").rglob("*") if path.is_file()]


def test_a_blob_is_downloaded_and_sent_once(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    sync_to(tmp_path, upstream, target)
    assert asked(upstream)["GET blobs"] == 4  # the shared layer, two others, one config
    assert target.received[NGINX] == sum(map(len, target.blobs[NGINX].values()))


@pytest.mark.parametrize(
    ("destination", "heads"),
    [
        pytest.param({}, 2, id="the destination is asked for each tag"),
        pytest.param({"trustDestination": True}, 0, id="it is trusted"),
    ],
)
def test_an_unchanged_tag_costs_one_head_on_each_side(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, destination: dict[str, Any], heads: int
) -> None:
    sync_to(tmp_path, upstream, target, destination=destination)
    target.counts()
    asked(upstream)
    report = sync_to(tmp_path, upstream, target, destination=destination)
    assert report.unchanged == 2
    assert target.counts() == ({"HEAD manifests": heads} if heads else {})
    assert asked(upstream)["HEAD manifests"] == 2


def test_one_download_feeds_the_store_and_the_registry(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    report = sync_to(tmp_path, upstream, target, to=("store", "other"))
    assert report.complete
    assert asked(upstream)["GET blobs"] == 4
    assert visible(store_of(tmp_path)) == [f"{NGINX}:1.25", f"{NGINX}:1.26"]
    assert_whole(target, NGINX, "1.26")


def test_one_download_feeds_two_registries(tmp_path: Path, upstream: Misbehaving, target: PushTarget) -> None:
    with push_target() as second:
        section = [{"name": "first", "url": target.url}, {"name": "second", "url": second.url}]
        report = sync_to(tmp_path, upstream, target, to=("first", "second"), more={"destinations": section})
        assert report.complete
        for each in (target, second):
            assert_whole(each, NGINX, "1.25")
    assert asked(upstream)["GET blobs"] == 4


def test_a_destination_that_is_added_later_is_filled_from_the_store(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    sync_to(tmp_path, upstream, target, to=("store",))
    asked(upstream)
    report = sync_to(tmp_path, upstream, target, to=("store", "other"))
    assert report.complete
    assert asked(upstream)["GET blobs"] == 0
    assert_whole(target, NGINX, "1.25")
    assert sync_to(tmp_path, upstream, target, to=("store", "other")).unchanged == 2


@pytest.mark.parametrize(
    ("destination", "name"),
    [
        pytest.param({}, NGINX, id="as here"),
        pytest.param({"prefix": "/team/mirror/"}, f"team/mirror/{NGINX}", id="prefix"),
        pytest.param({"template": "team/{flat}"}, "team/library-nginx", id="flat"),
        pytest.param({"template": "{entry}/{base}"}, "registry1/nginx", id="entry and base"),
    ],
)
def test_names_at_the_destination(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, destination: dict[str, Any], name: str
) -> None:
    sync_to(tmp_path, upstream, target, destination=destination)
    assert target.tag(name, "1.25")


@pytest.mark.parametrize("trusted", [False, True], ids=["asked", "trusted"])
def test_a_destination_that_is_another_registry_by_now_gets_everything(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, *, trusted: bool
) -> None:
    keys = {"trustDestination": trusted}
    sync_to(tmp_path, upstream, target, destination=keys)
    with push_target() as another:
        assert sync_to(tmp_path, upstream, another, destination=keys).complete
        assert_whole(another, NGINX, "1.25")
    sync_to(tmp_path, upstream, target, destination=keys | {"prefix": "m"})
    assert_whole(target, f"m/{NGINX}", "1.25")


def test_a_path_of_the_url_stands_before_every_name(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    sync_to(tmp_path, upstream, f"{target.url}/project", destination={"prefix": "x"})
    assert target.tag(f"project/x/{NGINX}", "1.25")


def test_a_blob_is_mounted_into_further_repositories(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    upstream.add_image("library/apache", "2", layers=(LAYER,))
    sync_to(tmp_path, upstream, target)
    assert_whole(target, "library/apache", "2")
    assert target.received[NGINX] + target.received["library/apache"] < 2 * len(LAYER)


@pytest.mark.parametrize("media_type", [media_types.OCI_INDEX, media_types.DOCKER_LIST])
def test_an_index_keeps_its_form_and_its_bytes(tmp_path: Path, target: PushTarget, media_type: str) -> None:
    with misbehaving() as upstream:
        children = [upstream.add_image("a/b", f"c{n}", layers=(b"%d" % n,)).manifest for n in range(3)]
        made = add_document(
            upstream, "a/b", "all", media_type, manifests=[child.to_json() for child in children]
        )
        rule = {"prefix": "a/b", "tags": {"regex": "all"}}
        report = sync_to(tmp_path, upstream, target, rule)
    assert report.complete
    assert target.tag("a/b", "all") == made.digest
    assert target.manifests["a/b"]["all"][0] == media_type
    assert_whole(target, "a/b", "all")


@pytest.mark.parametrize("has_api", [True, False], ids=["referrers API", "fallback tag"])
def test_referrers_follow_and_are_listed(tmp_path: Path, *, has_api: bool) -> None:
    with misbehaving() as upstream, push_target(lists_referrers=has_api) as target:
        image = upstream.add_image("a/b", "1", layers=(b"x",))
        config = upstream.add_blob("a/b", b"{}", "application/vnd.oci.empty.v1+json")
        layer = upstream.add_blob("a/b", b"sbom", "application/spdx+json")
        sbom = add_document(
            upstream,
            "a/b",
            "sbom",
            media_types.OCI_MANIFEST,
            artifactType="application/spdx+json",
            config=config.to_json(),
            layers=[layer.to_json()],
            subject=image.manifest.to_json(),
        )
        entry = {**sbom.to_json(), "artifactType": "application/spdx+json"}
        list_tag = fallback_tag(image.manifest.digest)
        upstream.add_manifest(
            "a/b",
            list_tag,
            json.dumps(
                {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}
            ).encode(),
            media_types.OCI_INDEX,
        )
        rule = {"prefix": "a/b", "tags": {"regex": "1"}}
        report = sync_to(tmp_path, upstream, target, rule)
        assert report.complete
        assert sbom.digest in target.manifests["a/b"]
        assert (list_tag in target.manifests["a/b"]) is not has_api
        if not has_api:
            (listed,) = json.loads(target.manifests["a/b"][list_tag][1])["manifests"]
            assert (listed["digest"], listed["artifactType"]) == (sbom.digest, "application/spdx+json")


def test_what_the_destination_was_asked_is_in_the_report(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    report = sync_to(tmp_path, upstream, target)
    assert report.requests["other: PUT manifest"] == 2
    assert report.requests["other: bytes sent"] == sum(target.received.values())


def test_a_moved_tag_moves_there_too(tmp_path: Path, upstream: Misbehaving, target: PushTarget) -> None:
    sync_to(tmp_path, upstream, target)
    new = upstream.add_image(NGINX, "1.25", layers=(LAYER, b"newer"))
    report = sync_to(tmp_path, upstream, target)
    assert (report.unchanged, report.message) == (1, "2 of 2 images")
    assert target.tag(NGINX, "1.25") == new.manifest.digest


def test_minimum_age_holds_an_image_back_from_a_registry(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    report = sync_to(tmp_path, upstream, target, minAge="7d")
    assert not target.manifests[NGINX]
    assert {image.reason.partition(" until")[0] for image in report.images} == {"held back"}


def test_a_digest_that_a_rule_names_goes_there_without_a_tag(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    digest = upstream.add_image(NGINX, "9", layers=(b"z",)).manifest.digest
    for _ in range(2):
        report = sync_to(tmp_path, upstream, target, {"images": [f"{NGINX}@{digest}"]})
        assert report.complete
    assert set(target.manifests[NGINX]) == {digest}
    assert report.unchanged == 1


@pytest.mark.parametrize("rewrite", [False, True])
def test_an_index_of_some_platforms_is_rewritten_for_a_registry_that_wants_all_it_lists(
    tmp_path: Path, *, rewrite: bool
) -> None:
    """With its digest it names platforms that are not there: most registries refuse that."""
    platforms = {"only": ["linux/amd64"], "rewrite": rewrite}
    with misbehaving() as upstream, push_target() as target:
        here = upstream.add_image("a/b", "amd", layers=(b"1",)).manifest
        left_out = upstream.add_image("a/b", "arm", layers=(b"2",)).manifest
        entries = [
            {**child.to_json(), "platform": {"os": "linux", "architecture": name}}
            for child, name in ((here, "amd64"), (left_out, "arm64"))
        ]
        add_document(upstream, "a/b", "all", media_types.OCI_INDEX, manifests=entries)
        rule = {"prefix": "a/b", "tags": {"regex": "all"}}
        report = sync_to(tmp_path, upstream, target, rule, platforms=platforms)
        assert report.complete is rewrite
        assert bool(target.tag("a/b", "all")) is rewrite
        if rewrite:
            assert_whole(target, "a/b", "all")
            assert sync_to(tmp_path, upstream, target, rule, platforms=platforms).unchanged == 1
        else:
            assert "MANIFEST_BLOB_UNKNOWN" in report.images[0].reason
