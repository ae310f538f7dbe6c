"""`convert: oci` and `platforms.rewrite` in polled mode, over a real upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag
from registry_server.store.maintenance.scrub import find_missing
from registry_server.store.repository_reader import held_manifests
from tasks.copy_blob import put_manifests
from tasks.planning import plan_entry
from tests.tasks.convert_manifest.docker_images import (
    ARM,
    CONVERT,
    IMAGE,
    NAME,
    RULE,
    TAG,
    add_docker_image,
    add_docker_list,
    add_referrer,
    document,
    repository,
    tagged,
)
from tests.tasks.runs import (
    add_index,
    asked,
    assert_complete,
    made_ready,
    opened,
    rows,
    store_of,
    sync,
    visible,
)

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from tests.support_misbehaving import Misbehaving


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
    assert_complete(store_of(tmp_path), IMAGE)
    row = rows(report)[IMAGE]
    assert row.reason == f"new, converted from {original.digest.short}"
    assert (row.digest, row.stored) == (original.digest, record.digest)


def test_a_second_poll_is_one_head(upstream: Misbehaving, tmp_path: Path) -> None:
    add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    sync(tmp_path, upstream, CONVERT)
    asked(upstream)
    report = sync(tmp_path, upstream, CONVERT)
    assert report.message == "1 of 1 images, nothing new"
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
    children = [each["digest"] for each in document(tmp_path, original.digest)["manifests"]]
    for digest in (original.digest, *children):
        held = repository(tmp_path).find_manifest(Digest(digest))
        assert held.descriptor.media_type.startswith("application/vnd.docker.")


def test_two_mirrors_give_one_image_one_digest_whatever_they_had_before(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    sync(first, upstream, CONVERT)
    for rule in (RULE, CONVERT | {"platforms": ARM}, CONVERT):
        assert sync(second, upstream, rule).complete
    assert tagged(first).digest == tagged(second).digest


def test_what_is_here_is_converted_and_given_back_without_asking_for_it_again(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    original = add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    sync(tmp_path, upstream, RULE)
    asked(upstream)
    report = sync(tmp_path, upstream, CONVERT)
    assert rows(report)[IMAGE].reason.startswith("moved to a new digest, converted from")
    assert tagged(tmp_path).converted_from == original.digest
    sync(tmp_path, upstream, RULE)
    assert tagged(tmp_path).digest == original.digest
    assert asked(upstream) == {"HEAD manifests": 2}


@pytest.mark.parametrize(
    ("platforms", "docker", "oci"),
    [
        pytest.param(ARM, ["amd64"], ["arm64"], id="left out: named as upstream names it"),
        pytest.param({"only": ARM, "rewrite": True}, [], ["arm64"], id="rewritten: not named"),
        pytest.param({"only": ["arm64", "amd64"], "rewrite": True}, [], ["amd64", "arm64"], id="all named"),
    ],
)
def test_platforms_that_are_left_out(
    upstream: Misbehaving, tmp_path: Path, platforms: Any, docker: list[str], oci: list[str]
) -> None:
    original = add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    rule = CONVERT | {"platforms": platforms}
    assert sync(tmp_path, upstream, rule).complete
    types = {media_types.DOCKER_MANIFEST: docker, media_types.OCI_MANIFEST: oci}
    entries = document(tmp_path, TAG)["manifests"]
    for media_type, architectures in types.items():
        found = [each for each in entries if each["mediaType"] == media_type]
        assert [each["platform"]["architecture"] for each in found] == architectures
    assert len(document(tmp_path, original.digest)["manifests"]) == 2
    assert list(find_missing(store_of(tmp_path))) == []
    asked(upstream)
    assert sync(tmp_path, upstream, rule).unchanged == 1
    assert asked(upstream) == {"HEAD manifests": 1}
    # And back to all: only what was left out is fetched.
    assert sync(tmp_path, upstream, CONVERT).complete
    missing = 2 - len(oci)
    assert asked(upstream)["GET manifests"] == missing
    assert tagged(tmp_path).sparse == ()


def test_an_index_is_cut_down_without_being_converted(upstream: Misbehaving, tmp_path: Path) -> None:
    original = add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    rule = RULE | {"platforms": {"only": ARM, "rewrite": True}}
    assert sync(tmp_path, upstream, rule).complete
    index = document(tmp_path, TAG)
    assert index["mediaType"] == media_types.DOCKER_LIST
    assert index["manifests"] == document(tmp_path, original.digest)["manifests"][1:]


def test_without_rewrite_an_index_keeps_its_bytes_and_declares_what_is_missing(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    original = add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    assert sync(tmp_path, upstream, RULE | {"platforms": ARM}).complete
    record = tagged(tmp_path)
    assert (record.digest, record.converted_from) == (original.digest, None)
    assert record.sparse == (Digest(document(tmp_path, TAG)["manifests"][0]["digest"]),)


def test_what_is_named_by_digest_and_what_is_oci_already_stay_as_they_are(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    docker = add_docker_image(upstream, NAME, "docker")
    oci = upstream.add_image(NAME, "1.25").manifest
    rule = CONVERT | {"images": [f"{NAME}@{docker.digest}", IMAGE]}
    assert sync(tmp_path, upstream, rule).complete
    assert tagged(tmp_path).digest == oci.digest
    assert tagged(tmp_path).converted_from is None
    assert set(held_manifests(repository(tmp_path))) == {docker.digest, oci.digest}
    assert sync(tmp_path, upstream, rule).unchanged == 2


def test_a_signature_tag_follows_the_original_and_is_not_converted(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    original = add_docker_image(upstream, NAME, "1.25")
    signature = add_docker_image(upstream, NAME, f"sha256-{original.digest.hex}.sig", architecture="sig")
    assert sync(tmp_path, upstream, {"prefix": NAME, "convert": "oci"}).complete
    found = repository(tmp_path).tag(Tag(f"sha256-{original.digest.hex}.sig"))
    assert found is not None
    assert found.digest == signature.digest
    assert tagged(tmp_path).converted_from == original.digest


# What refers to the image.


def list_referrers(upstream: Misbehaving, subject: Descriptor, *referrers: Descriptor) -> None:
    """Under the fallback tag of distribution-spec: this upstream has no referrers API."""
    add_index(upstream, NAME, f"sha256-{subject.digest.hex}", *referrers)


def test_an_sbom_is_copied_for_the_converted_image_and_a_signature_is_not(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    original = add_docker_list(upstream, NAME, "1.25", "amd64")
    sbom = add_referrer(upstream, original, "application/spdx+json", "sbom")
    signature = add_referrer(upstream, original, "application/vnd.cncf.notary.signature", "signature")
    list_referrers(upstream, original, sbom, signature)
    rule = {"prefix": NAME, "tags": {"regex": "1.25"}, "convert": "oci"}
    assert sync(tmp_path, upstream, rule).complete
    held = repository(tmp_path)
    assert {each.digest for each in held.referrers(original.digest)} == {sbom.digest, signature.digest}
    [copy] = held.referrers(tagged(tmp_path).digest)
    assert copy.artifact_type == "application/spdx+json"
    copied, was = document(tmp_path, copy.digest), document(tmp_path, sbom.digest)
    assert copied == was | {"subject": copied["subject"]}
    # One that comes later, to a platform.
    [child] = document(tmp_path, original.digest)["manifests"]
    platform = held.find_manifest(Digest(child["digest"])).descriptor
    late = add_referrer(upstream, platform, "application/vnd.cyclonedx+json", "late")
    list_referrers(upstream, platform, late)
    assert sync(tmp_path, upstream, rule | {"referrers": {"nested": True}}).complete
    [new_child] = document(tmp_path, TAG)["manifests"]
    [copy] = held.referrers(Digest(new_child["digest"]))
    assert copy.artifact_type == "application/vnd.cyclonedx+json"


@pytest.mark.parametrize("count", [0, 2, 3, 5, 6])
def test_a_crash_between_original_and_converted_shows_nothing_and_the_next_run_ends_it(
    upstream: Misbehaving, tmp_path: Path, count: int
) -> None:
    """After so many of three originals and three converted manifests."""
    add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    with opened(tmp_path, f"http://{upstream.host}", CONVERT) as run:
        batch = made_ready(run)
        batch.copy_blob()
        plan = batch.images[0].plan
        assert plan is not None
        assert len(plan.manifests) == 6
        put_manifests(run, plan.image.local, plan.manifests[:count])
    assert visible(store_of(tmp_path)) == []
    asked(upstream)
    assert sync(tmp_path, upstream, CONVERT).complete
    assert asked(upstream) == {"HEAD manifests": 1}
    assert tagged(tmp_path).digest == plan.root.digest
    assert_complete(store_of(tmp_path), IMAGE)


# What is said of it.


def test_a_plan_tells_the_digest_that_the_tag_will_have(upstream: Misbehaving, tmp_path: Path) -> None:
    add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    with opened(tmp_path, f"http://{upstream.host}", CONVERT) as run:
        [planned] = plan_entry(run).images
        assert run.store.repositories() == []
    sync(tmp_path, upstream, CONVERT)
    assert planned.becomes == tagged(tmp_path).digest
