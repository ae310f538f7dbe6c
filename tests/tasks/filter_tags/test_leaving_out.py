"""What comes along with an image, what of it is wanted, and what is left out: at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.reference import RepositoryName, Tag
from tasks.results.outcomes import Outcome
from tests.tasks.runs import (
    add_document,
    asked,
    assert_complete,
    rows,
    store_of,
    sync,
    visible,
)

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.digest import Digest
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"


SCHEMA1 = '{"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}'


@pytest.mark.parametrize(
    ("told", "first", "second"),
    [
        pytest.param(True, 0, 0, id="by its Content-Type: not even one GET"),
        pytest.param(False, 1, 0, id="by its content: one GET, and none at the next poll"),
    ],
)
def test_schema_1_is_left_out_with_a_reason_and_asked_for_at_most_once(
    upstream: Misbehaving,
    tmp_path: Path,
    told: bool,  # noqa: FBT001 - a column of the table
    first: int,
    second: int,
) -> None:
    media_type = media_types.DOCKER_SCHEMA1_SIGNED if told else "application/json"
    upstream.add_manifest(NAME, "old", SCHEMA1.encode(), media_type)
    for gets in (first, second):
        report = sync(tmp_path, upstream)
        row = rows(report)[f"{NAME}:old"]
        assert (row.outcome, row.reason.partition(",")[0]) == (
            Outcome.SKIPPED, "is in Docker's schema 1 format",
        )  # fmt: skip
        assert report.complete, "what cannot be kept is no failure"
        assert asked(upstream)["GET manifests"] == gets


def select(expression: str) -> dict[str, Any]:
    return {"prefix": "**", "select": expression}


def test_what_select_declined_is_looked_at_again_only_when_the_image_or_the_expression_changes(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1.25")
    arm, amd = select("contains(platforms, 'linux/arm64')"), select("contains(platforms, 'linux/amd64')")
    report = sync(tmp_path, upstream, arm)
    assert rows(report)[f"{NAME}:1.25"].reason.startswith("is not selected by `select: contains(platforms")
    assert (asked(upstream)["GET manifests"], report.total, report.complete) == (1, 0, True)
    sync(tmp_path, upstream, arm)
    assert asked(upstream)["GET manifests"] == 0
    sync(tmp_path, upstream, amd)
    assert asked(upstream)["GET manifests"] == 1
    upstream.add_image(NAME, "1.25", (b"changed",))
    sync(tmp_path, upstream, amd)
    assert asked(upstream)["GET manifests"] == 1


def test_what_select_took_costs_one_get_and_none_at_the_next_poll(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1.25")
    rule = select("repository == 'library/nginx' && tag == '1.25'")
    assert sync(tmp_path, upstream, rule).message == "1 of 1 images"
    assert asked(upstream)["GET manifests"] == 1
    assert sync(tmp_path, upstream, rule).unchanged == 1
    assert asked(upstream)["GET manifests"] == 0


def companion(upstream: Misbehaving, digest: Digest, kind: str) -> str:
    tag = f"{digest.algorithm}-{digest.hex}{kind}"
    upstream.add_image(NAME, tag, (tag.encode(),))
    return tag


def test_companions_follow_their_image_although_the_rule_would_not_take_their_tags(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    wanted = upstream.add_image(NAME, "1.25", (b"wanted",)).manifest.digest
    other = upstream.add_image(NAME, "0.9", (b"other",)).manifest.digest
    mine = [companion(upstream, wanted, kind) for kind in (".sig", ".att", ".sbom")]
    companion(upstream, other, ".sig")
    rule = {"prefix": "**", "tags": {"regex": "1.*"}}
    assert sync(tmp_path, upstream, rule).total == 4
    assert visible(store_of(tmp_path)) == sorted(f"{NAME}:{tag}" for tag in ["1.25", *mine])
    asked(upstream)
    assert sync(tmp_path, upstream, rule).unchanged == 4
    assert asked(upstream)["HEAD manifests"] == 4
    late = companion(upstream, wanted, ".sig")
    assert [row.image for row in sync(tmp_path, upstream, rule).images] == [], "the same again"
    upstream.add_image(NAME, late, (b"signed once more",))
    assert list(rows(sync(tmp_path, upstream, rule))) == [f"{NAME}:{late}"]


@pytest.mark.parametrize(
    ("only", "brought"),
    [
        pytest.param("1.25", ["1.25", ".sig"], id="an image brings its companions"),
        pytest.param(".sig", [".sig"], id="a companion alone, as a rerun asks for one that failed"),
    ],
)
def test_a_run_for_one_image_finds_it_and_its_companions(
    upstream: Misbehaving, tmp_path: Path, only: str, brought: list[str]
) -> None:
    digest = upstream.add_image(NAME, "1.25").manifest.digest
    upstream.add_image(NAME, "1.26")
    names = {"1.25": f"{NAME}:1.25", ".sig": f"{NAME}:{companion(upstream, digest, '.sig')}"}
    report = sync(tmp_path, upstream, only=[names[only]])
    assert sorted(rows(report)) == sorted(names[each] for each in brought)
    assert report.complete


def test_companions_can_be_left_behind(upstream: Misbehaving, tmp_path: Path) -> None:
    companion(upstream, upstream.add_image(NAME, "1.25").manifest.digest, ".sig")
    report = sync(tmp_path, upstream, syncLegacyCosignTags=False)
    assert list(rows(report)) == [f"{NAME}:1.25"]


def add_platforms(upstream: Misbehaving, *platforms: str) -> None:
    children = []
    for platform in platforms:
        system, architecture = platform.split("/")
        child = upstream.add_image(NAME, platform, (platform.encode(),)).manifest
        upstream.repositories[NAME].tags.remove(platform)
        children.append(child.to_json() | {"platform": {"os": system, "architecture": architecture}})
    add_document(upstream, NAME, "1.25", media_types.OCI_INDEX, manifests=children)


def test_an_index_that_was_stored_sparse_is_completed_when_the_profile_wants_another_platform(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    add_platforms(upstream, "linux/amd64", "linux/arm64", "linux/s390x")
    sync(tmp_path, upstream, platforms=["linux/amd64"])
    store = store_of(tmp_path)
    record = store.repository(RepositoryName(NAME)).tag(Tag("1.25"))
    assert record is not None
    assert len(record.sparse) == 2
    assert_complete(store, f"{NAME}:1.25")
    assert sync(tmp_path, upstream, platforms=["linux/amd64"]).unchanged == 1
    asked(upstream)
    report = sync(tmp_path, upstream, platforms=["linux/amd64", "linux/arm64"])
    assert report.message == "1 of 1 images"
    counts = asked(upstream)
    assert (counts["GET manifests"], counts["GET blobs"]) == (1, 1), "the child and its layer; not the rest"
    assert_complete(store, f"{NAME}:1.25")
    assert sync(tmp_path, upstream, platforms=["linux/arm64"]).unchanged == 1, "less is no change"
    assert sync(tmp_path, upstream).message == "1 of 1 images"
    record = store.repository(RepositoryName(NAME)).tag(Tag("1.25"))
    assert record is not None
    assert record.sparse == ()


def test_an_index_without_any_wanted_platform_is_left_out_and_asked_for_once(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    add_platforms(upstream, "linux/amd64")
    for gets in (1, 0):
        report = sync(tmp_path, upstream, platforms=["linux/s390x", "riscv64"])
        assert rows(report)[f"{NAME}:1.25"].reason == "has none of the wanted platforms: linux/s390x, riscv64"
        assert asked(upstream)["GET manifests"] == gets
        assert report.complete
    assert visible(store_of(tmp_path)) == []
    assert sync(tmp_path, upstream, platforms=["amd64"]).message == "1 of 1 images"
