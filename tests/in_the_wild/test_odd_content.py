"""Odd content on demand and under a policy: served by its own type, and judged as what it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from tasks.planning import plan_entry
from tasks.results.outcomes import Outcome
from tasks.run.errors import SCHEMA1
from tests.in_the_wild.cases import odd_content as odd
from tests.in_the_wild.cases.odd_content import APP, OCTETS, TAG
from tests.on_demand.mirrors import document, mirroring
from tests.support_misbehaving import well_behaved
from tests.tasks.runs import add_document, add_index, asked, mirror, opened, rows, store_of, sync, visible
from tests.tasks.test_verifying import OURS, policy, sign

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving


@pytest.mark.parametrize(
    ("arrange", "media_type"),
    [
        pytest.param(odd.served_as(OCTETS), media_types.OCI_MANIFEST, id="of no known type"),
        pytest.param(odd.served_as(odd.DOCKER), media_types.OCI_MANIFEST, id="announced as Docker's"),
        pytest.param(odd.child_called(OCTETS), media_types.OCI_INDEX, id="a child of no known type"),
        pytest.param(odd.child_called(odd.DOCKER), media_types.OCI_INDEX, id="a child called Docker's"),
        pytest.param(odd.child_called(""), media_types.OCI_INDEX, id="a child without a type"),
        pytest.param(odd.by_tag_only, media_types.OCI_MANIFEST, id="by tag only"),
    ],
)
@pytest.mark.parametrize("all_platforms", [False, True])
def test_a_client_gets_the_type_of_the_content(
    tmp_path: Path,
    upstream: Misbehaving,
    arrange: Callable[[Misbehaving], object],
    media_type: str,
    *,
    all_platforms: bool,
) -> None:
    arrange(upstream)
    wanted = {"onDemandPlatforms": "all"} if all_platforms else {}
    with mirroring(tmp_path, document(f"http://{upstream.host}", **wanted)) as found:
        answer = found.client.get(TAG)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)
        for child in answer.json().get("manifests", ()):
            part = found.client.get(f"/v2/{APP}/manifests/{child['digest']}")
            assert (part.status_code, part.headers["Content-Type"]) == (200, media_types.OCI_MANIFEST)
            layer = part.json()["layers"][0]["digest"]
            assert found.client.get(f"/v2/{APP}/blobs/{layer}").content == b"layer"
        found.work.wait()
        assert visible(found.store) == [f"{APP}:1"]


def test_a_tag_that_moved_is_asked_for_by_tag_on_demand(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image(APP, "1", (b"first",))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as found:
        assert found.client.get(TAG).status_code == 200
        found.work.wait()
        odd.moved(upstream)
        answer = found.client.get(TAG)
        assert answer.json()["layers"][0]["digest"] == Digest.of(b"after")


def test_what_a_tag_moved_to_is_judged_as_well(tmp_path: Path, upstream: Misbehaving) -> None:
    before = upstream.add_image("app", "1", (b"before",))
    sign(upstream, before.manifest.digest, OURS)
    headers = {"Content-Type": media_types.OCI_MANIFEST, "Docker-Content-Digest": before.manifest.digest}
    path = "/v2/app/manifests/1"
    upstream.on(path, lambda exchange: exchange.answer(200, before.body, headers), well_behaved)
    after = upstream.add_image("app", "1", (b"after",)).manifest.digest
    del upstream.repositories["app"].manifests[before.manifest.digest]
    with opened(tmp_path, f"http://{upstream.host}", more=policy(upstream)) as run:
        report = mirror(run)
    assert f"app@{after}" in rows(report)["app:1"].reason.replace("app:1", f"app@{after}")
    assert "it has no signature" in rows(report)["app:1"].reason
    assert "app:1" not in visible(store_of(tmp_path))


@pytest.mark.parametrize(
    ("rule", "more"),
    [
        pytest.param({"select": "tag == '1'"}, {}, id="a rule that looks at what the tag names"),
        pytest.param({"minAge": "1d"}, {}, id="a time of waiting, which is for each digest"),
        pytest.param({}, {"warn": True}, id="a policy, which judges a digest"),
    ],
)
def test_a_tag_that_never_stands_still_is_not_taken_where_its_content_decides(
    tmp_path: Path, upstream: Misbehaving, rule: dict[str, Any], more: dict[str, Any]
) -> None:
    """Otherwise one GET of the tag is taken for what it names."""
    odd.moves_all_the_time(upstream)
    found = policy(upstream, "warn") if more else None
    with opened(tmp_path, f"http://{upstream.host}", {"prefix": APP, **rule}, more=found) as run:
        report = mirror(run)
    assert report.count(Outcome.COPIED) == 0
    assert visible(store_of(tmp_path)) == []


@pytest.mark.parametrize("called", [OCTETS, "", odd.DOCKER, media_types.OCI_MANIFEST])
@pytest.mark.parametrize("served", [OCTETS, media_types.OCI_INDEX])
def test_a_type_that_says_nothing_hides_no_platform_from_a_policy(
    tmp_path: Path, upstream: Misbehaving, called: str, served: str
) -> None:
    """`indexChildren: each`: the index is signed, and its only image is not."""
    child = upstream.add_image("app", "child", (b"evil",)).manifest
    upstream.repositories["app"].tags.remove("child")
    entry = Descriptor(called, child.digest, child.size).to_json()
    index = add_document(upstream, "app", "1", media_types.OCI_INDEX, manifests=[entry])
    upstream.add_manifest("app", "1", upstream.repositories["app"].manifests["1"][1], served)
    sign(upstream, index.digest, OURS)
    strict: dict[str, Any] = policy(upstream)
    strict["verify"]["rules"][0]["signatures"]["indexChildren"] = "each"
    with opened(tmp_path, f"http://{upstream.host}", more=strict) as run:
        report = mirror(run)
    assert "it has no signature" in rows(report)["app:1"].reason
    with mirroring(tmp_path / "demand", document(f"http://{upstream.host}"), more=strict) as found:
        assert found.client.get("/v2/app/manifests/1").status_code == 403
    sign(upstream, child.digest, OURS)
    with opened(tmp_path, f"http://{upstream.host}", more=strict) as run:
        mirror(run)
    assert "app:1" in visible(store_of(tmp_path))


def list_schema_1(upstream: Misbehaving) -> Digest:
    """Under the tag; the digest of what is listed."""
    old = json.dumps({"schemaVersion": 1, "name": APP, "tag": "1", "fsLayers": [], "history": []}).encode()
    child = upstream.add_manifest(APP, "old", old, media_types.DOCKER_SCHEMA1_SIGNED)
    upstream.repositories[APP].tags.remove("old")
    add_index(upstream, APP, "1", Descriptor(media_types.DOCKER_SCHEMA1, child.digest, child.size))
    return child.digest


def test_a_tag_that_moved_to_a_list_with_schema_1_is_left_out(tmp_path: Path, upstream: Misbehaving) -> None:
    odd.moved(upstream)
    child = list_schema_1(upstream)
    row = rows(sync(tmp_path, upstream))[f"{APP}:1"]
    assert (row.outcome, row.reason) == (Outcome.SKIPPED, f"lists {child}, which {SCHEMA1}")


def test_schema_1_in_a_list_is_named_and_looked_at_once(tmp_path: Path, upstream: Misbehaving) -> None:
    child = list_schema_1(upstream)
    with opened(tmp_path, f"http://{upstream.host}") as run:
        [(name, reason)] = plan_entry(run).left_out.items()
    assert (name, reason) == (f"{APP}:1", f"lists {child}, which {SCHEMA1}")
    assert rows(sync(tmp_path, upstream))[f"{APP}:1"].reason == reason
    asked(upstream)
    sync(tmp_path, upstream)
    assert asked(upstream) == {"GET tags": 1, "HEAD manifests": 1}
