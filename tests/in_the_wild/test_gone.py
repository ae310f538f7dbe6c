"""Indexes that are taken in part: what the next polls cost, and what pulls and changed rules get."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_MANIFEST
from registry_server.oci.reference import RepositoryName, Tag
from tasks.planning import plan_entry
from tests.in_the_wild.cases.gone import APP, SPARSE, attested, one_gone
from tests.on_demand.mirrors import document, mirroring
from tests.tasks.runs import asked, opened, store_of, sync, visible

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

NAME = RepositoryName(APP)
WITHOUT = {"prefix": "**", "attestationManifests": False}


def test_what_is_gone_is_not_asked_for_at_each_poll(tmp_path: Path, upstream: Misbehaving) -> None:
    gone = one_gone(upstream)
    sync(tmp_path, upstream, SPARSE)
    record = store_of(tmp_path).repository(NAME).tag(Tag("1"))
    assert record is not None
    assert (record.sparse, record.gone) == ((gone.digest,), (gone.digest,))
    asked(upstream)
    report = sync(tmp_path, upstream, SPARSE)
    assert (report.unchanged, report.images) == (1, [])
    assert asked(upstream) == {"GET tags": 1, "HEAD manifests": 1}


def test_a_rule_that_wants_all_again_fails_and_mends_itself(tmp_path: Path, upstream: Misbehaving) -> None:
    gone = one_gone(upstream)
    sync(tmp_path, upstream, SPARSE)
    assert not sync(tmp_path, upstream).complete
    assert visible(store_of(tmp_path)) == [f"{APP}:1"], "what is here is served all the same"
    body = upstream.add_image(APP, "again", (b"gone",)).body
    upstream.add_manifest(APP, gone.digest, body, OCI_MANIFEST)
    assert sync(tmp_path, upstream).complete
    assert store_of(tmp_path).repository(NAME).has_blob(gone.digest)


def test_an_image_that_is_listed_by_digest_is_in_place_without_what_is_gone(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    one_gone(upstream)
    digest = Digest.of(upstream.repositories[APP].manifests["1"][1])
    listed = {"images": [f"{APP}@{digest}"], "missingChildren": "sparse"}
    assert sync(tmp_path, upstream, listed).complete
    assert sync(tmp_path, upstream, listed).images == []


def test_a_plan_notes_what_is_gone(tmp_path: Path, upstream: Misbehaving) -> None:
    gone = one_gone(upstream)
    with opened(tmp_path, f"http://{upstream.host}", SPARSE) as run:
        plan = plan_entry(run)
    assert [image.image for image in plan.images] == [f"{APP}:1"]
    assert str(gone.digest) in plan.notes[0]


@pytest.mark.parametrize("sparse", [False, True])
def test_on_demand_the_rest_of_an_index_is_completed(
    tmp_path: Path, upstream: Misbehaving, *, sparse: bool
) -> None:
    one_gone(upstream)
    content = [SPARSE if sparse else {"prefix": "**"}]
    entry = document(f"http://{upstream.host}", content=content, onDemandPlatforms="all")
    with mirroring(tmp_path, entry) as found:
        assert found.client.get(f"/v2/{APP}/manifests/1").status_code == 200
        found.work.wait()
        assert visible(found.store) == ([f"{APP}:1"] if sparse else [])


def test_attestations_come_when_the_rule_wants_them_again(tmp_path: Path, upstream: Misbehaving) -> None:
    attestation = attested(upstream)
    sync(tmp_path, upstream, WITHOUT)
    assert not store_of(tmp_path).repository(NAME).has_blob(attestation.digest)
    assert sync(tmp_path, upstream, WITHOUT).unchanged == 1
    assert sync(tmp_path, upstream).complete
    assert store_of(tmp_path).repository(NAME).has_blob(attestation.digest)
    assert sync(tmp_path, upstream, WITHOUT).unchanged == 1, "less is no change"


def test_on_demand_attestations_are_not_handed_out_where_no_rule_wants_them(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    attestation = attested(upstream)
    with mirroring(tmp_path, document(f"http://{upstream.host}", content=[WITHOUT])) as found:
        index = found.client.get(f"/v2/{APP}/manifests/1")
        assert len(index.json()["manifests"]) == 2, "the index keeps its digest"
        image = index.json()["manifests"][0]["digest"]
        assert found.client.get(f"/v2/{APP}/manifests/{image}").status_code == 200
        found.work.wait()
    assert not store_of(tmp_path).repository(NAME).has_blob(attestation.digest)


def test_a_smaller_index_does_not_name_what_it_is_without(tmp_path: Path, upstream: Misbehaving) -> None:
    attested(upstream)
    rule = WITHOUT | {"platforms": {"only": ["linux/amd64"], "rewrite": True}}
    sync(tmp_path, upstream, rule)
    _, body = store_of(tmp_path).repository(NAME).read_manifest(Tag("1"))
    assert body.count(b'"digest"') == 1
    assert sync(tmp_path, upstream, rule).unchanged == 1
