"""A plan is what a run then does: the same images, bytes and GETs, counted; and it writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from tasks.planning import Plan, plan_entry
from tests.support_behaviours import answers
from tests.tasks.runs import add_index, mirror, opened, store_of, sync, visible

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.results.report import Report
    from tests.support.registries import Registry
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
RULES: dict[str, tuple[dict[str, Any], ...]] = {
    "everything": ({"prefix": "**"},),
    "releases of one platform": (
        {
            "prefix": "library/*",
            "tags": {"semverRange": ">=1.2 <4", "newest": 2},
            "platforms": ["linux/amd64"],
        },
    ),
    "two places": ({"prefix": "apps/*"}, {"prefix": "apps/web", "destination": "/other"}),
    "by looking into the images": ({"prefix": "**", "select": "contains(platforms, 'linux/arm64/v8')"},),
    "listed": ({"images": ["apps/api:1.0.0", "tools/builder:2024.01-all"]},),
}


def planned(folder: Path, url: str, *rules: dict[str, Any], weigh: bool = True, **more: Any) -> Plan:
    with opened(folder, url, *rules, **more) as run:
        return plan_entry(run, weigh=weigh)


def synced(folder: Path, url: str, *rules: dict[str, Any]) -> Report:
    with opened(folder, url, *rules) as run:
        return mirror(run)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_plan_writes_nothing_and_a_run_does_what_it_said_counted_at_the_upstream(
    sample_upstream: Registry, tmp_path: Path, rules: tuple[dict[str, Any], ...]
) -> None:
    # Something is there already, so that a plan has to know what is not.
    synced(tmp_path, sample_upstream.url, {"images": ["library/nginx:latest", "apps/web:v2"]})
    before = files(tmp_path / "store")
    plan = planned(tmp_path, sample_upstream.url, *rules)
    assert files(tmp_path / "store") == before
    sample_upstream.requests.new()
    report = synced(tmp_path, sample_upstream.url, *rules)
    counts = sample_upstream.requests.counts()
    copied = {row.image: row.digest for row in report.images if row.outcome.name == "COPIED"}
    assert {row.image: row.digest for row in plan.images} == copied
    assert sum(row.new_bytes for row in plan.images) == report.bytes_moved
    assert sum(row.held_bytes for row in plan.images) == report.bytes_saved
    assert plan.manifest_gets == counts["GET manifest"]
    assert plan.unchanged == report.unchanged
    assert not planned(tmp_path, sample_upstream.url, *rules), "and then there is nothing to do"


def test_a_digest_that_several_images_share_counts_for_the_first_of_them(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1", (b"shared", b"one"))
    upstream.add_image(NAME, "2", (b"shared", b"two!"))
    plan = planned(tmp_path, f"http://{upstream.host}")
    assert [(row.image, row.new_bytes, row.held_bytes) for row in plan.images] == [
        (f"{NAME}:1", len(b"{}sharedone"), 0),
        (f"{NAME}:2", len(b"two!"), len(b"{}shared")),
    ]
    document = plan.to_json()
    assert (document["newBytes"], document["heldBytes"], len(document["add"])) == (15, 8, 2)


def test_what_moves_is_told_apart_from_what_is_new(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image(NAME, "latest")
    sync(tmp_path, upstream)
    upstream.add_image(NAME, "latest", (b"newer",))
    upstream.add_image(NAME, "2", (b"new",))
    document = planned(tmp_path, f"http://{upstream.host}").to_json()
    assert [row["image"] for row in document["move"]] == [f"{NAME}:latest"]
    assert [row["image"] for row in document["add"]] == [f"{NAME}:2"]


def test_without_weighing_a_plan_costs_heads_only(upstream: Misbehaving, tmp_path: Path) -> None:
    image = upstream.add_image(NAME, "1").manifest
    media_type, body = upstream.repositories[NAME].manifests["1"]
    upstream.add_manifest(NAME, "same", body, media_type)
    add_index(upstream, NAME, "all", image)
    plan = planned(tmp_path, f"http://{upstream.host}", weigh=False)
    assert (len(plan.images), plan.manifest_gets) == (3, 2)
    assert upstream.requests("GET", "/manifests/") == []


def test_a_plan_names_what_is_left_out_dropped_and_wrong_and_goes_on(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    schema1 = b'{"schemaVersion": 1}'
    upstream.add_manifest(NAME, "1.0-old", schema1, media_types.DOCKER_SCHEMA1)
    upstream.add_manifest(NAME, "1.0-hidden", schema1, "application/json")
    add_index(upstream, NAME, "1.0-arm", *())
    upstream.add_image(NAME, "nightly")
    upstream.add_image(NAME, "1.0")
    sick = upstream.add_image(NAME, "1.1", (b"sick",)).manifest
    upstream.on(f"/v2/{NAME}/manifests/{sick.digest}", answers(403))
    upstream.add_image("apps/forbidden", "1")
    upstream.on("/v2/apps/forbidden/tags/list", answers(403))
    plan = planned(tmp_path, f"http://{upstream.host}", {"prefix": "**", "tags": {"regex": "1.*"}})
    assert [row.image for row in plan.images] == [f"{NAME}:1.0", f"{NAME}:1.0-arm"]
    assert set(plan.left_out) == {f"{NAME}:1.0-old", f"{NAME}:1.0-hidden"}
    assert plan.dropped.counts == {"does not match regex 1.*": 1}
    assert plan.problems == {
        f"{NAME}:1.1": f"{upstream.host}: {NAME}@{sick.digest}: 403 Forbidden",
        "apps/forbidden": f"{upstream.host}: apps/forbidden: 403 Forbidden",
    }
    assert visible(store_of(tmp_path)) == []
