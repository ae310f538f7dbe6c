"""What accompanies an image comes with it: from a registry with the referrers API, and from one without."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.media_types import OCI_CONFIG
from registry_server.oci.reference import Tag
from registry_server.store.gc.collector import collect
from tasks.planning import plan_entry
from tasks.results.outcomes import Outcome
from tests.tasks.companies import (
    APP,
    BUNDLE,
    LAYER,
    SBOM,
    Holder,
    WithApi,
    WithoutApi,
    add_image,
    attach,
    index_of,
    listed,
    run,
    stored,
)
from tests.tasks.runs import mirror, opened, rows, store_of, visible

if TYPE_CHECKING:
    from pathlib import Path


def test_what_refers_to_an_image_comes_with_it_and_what_refers_to_that(
    upstream: Holder, tmp_path: Path
) -> None:
    image = add_image(upstream, "v1")
    sbom = attach(upstream, image, SBOM, b"what is in it")
    signature = attach(upstream, image, BUNDLE, b"signed")
    of_sbom = attach(upstream, sbom, BUNDLE, b"the SBOM is signed")
    report = run(tmp_path, upstream)
    assert report.complete
    assert listed(tmp_path, image) == {sbom.digest, signature.digest}
    assert listed(tmp_path, sbom) == {of_sbom.digest}
    assert visible(store_of(tmp_path)) == ["app:v1"], "the list of a registry without the API is no image"
    found = {each["companion"]: each["type"] for each in rows(report)["app:v1"].companions}
    assert found == {str(sbom.digest): SBOM, str(signature.digest): BUNDLE, str(of_sbom.digest): BUNDLE}


def test_what_refers_to_a_platform_comes_too(upstream: Holder, tmp_path: Path) -> None:
    child = add_image(upstream, "child")
    index_of(upstream, "v1", child)
    signature = attach(upstream, child, BUNDLE, b"signed recursively")
    run(tmp_path, upstream, {"prefix": "app", "tags": {"regex": "v1"}})
    assert listed(tmp_path, child) == {signature.digest}


def test_a_new_companion_of_an_unchanged_image_is_found_at_the_next_poll(
    upstream: Holder, tmp_path: Path
) -> None:
    image = add_image(upstream, "v1")
    run(tmp_path, upstream)
    late = attach(upstream, image, BUNDLE, b"signed later")
    of_late = attach(upstream, late, SBOM, b"and this about the signature")
    report = run(tmp_path, upstream)
    assert rows(report)["app:v1"].reason == "2 new companions"
    assert listed(tmp_path, image) == {late.digest}
    assert listed(tmp_path, late) == {of_late.digest}
    assert report.complete
    assert run(tmp_path, upstream).images == []


def test_with_the_api_a_poll_costs_at_most_one_request_a_tag_more(with_api: WithApi, tmp_path: Path) -> None:
    images = [add_image(with_api, f"v{number}") for number in range(4)]
    for image in images[:2]:
        attach(with_api, image, BUNDLE, b"signed")
    repository = with_api.registry.store.repository(APP)
    record = repository.tag(Tag("v0"))
    assert record is not None
    repository.put_tag(Tag("same"), record)
    assert run(tmp_path, with_api).complete
    with_api.asked()
    assert run(tmp_path, with_api).unchanged == 5
    counts = with_api.asked()
    assert counts["HEAD manifest"] == 5
    assert counts["GET referrers"] == 4, "tags with one digest share the question"
    assert counts["GET manifest"] == counts["GET blob"] == 0


def test_without_the_api_one_request_finds_that_out_and_only_lists_that_are_there_are_looked_at(
    without_api: WithoutApi, tmp_path: Path
) -> None:
    images = [add_image(without_api, f"v{number}") for number in range(4)]
    attach(without_api, images[0], BUNDLE, b"signed")
    assert run(tmp_path, without_api).complete
    without_api.asked()
    assert run(tmp_path, without_api).unchanged == 4
    counts = without_api.asked()
    assert counts == {"GET tag": 1, "HEAD manifest": 5, "GET referrers": 1}


def test_a_rule_can_do_without(upstream: Holder, tmp_path: Path) -> None:
    image = add_image(upstream, "v1")
    sbom = attach(upstream, image, SBOM, b"what is in it")
    run(tmp_path, upstream, {"prefix": "**", "referrers": {"follow": False}})
    assert stored(tmp_path, image, sbom) == [True, False]
    assert upstream.asked()["GET referrers"] == 0


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param({"artifactTypes": ["application/spdx*"]}, id="by type"),
        pytest.param({"annotations": {"org.example.kind": "sb*"}}, id="by annotation"),
    ],
)
def test_a_rule_chooses_by_type_and_annotation(
    upstream: Holder, tmp_path: Path, wish: dict[str, Any]
) -> None:
    image = add_image(upstream, "v1")
    sbom = attach(upstream, image, SBOM, b"what is in it", annotations={"org.example.kind": "sbom"})
    other = attach(upstream, image, BUNDLE, b"signed", annotations={"org.example.kind": "signature"})
    for _ in range(2):
        report = run(tmp_path, upstream, {"prefix": "**", "referrers": wish})
    assert stored(tmp_path, sbom) == [True]
    assert listed(tmp_path, image) == {sbom.digest}
    assert other.digest not in listed(tmp_path, image)
    assert report.images == [], "what the rule does not want is not new each time"


def test_a_cycle_ends(without_api: WithoutApi, tmp_path: Path) -> None:
    """Digests make a cycle impossible, and lists that somebody wrote by hand do not."""
    image = add_image(without_api, "v1")
    sbom = attach(without_api, image, SBOM, b"one")
    without_api.list_under(sbom.digest, sbom)
    without_api.list_under(sbom.digest, image)
    report = run(tmp_path, without_api)
    assert report.complete
    assert listed(tmp_path, image) == {sbom.digest}


def test_what_says_that_it_refers_to_something_else_does_not_come_in(
    without_api: WithoutApi, tmp_path: Path
) -> None:
    image, other = add_image(without_api, "v1"), add_image(without_api, "other")
    foreign = attach(without_api, other, SBOM, b"of another image")
    without_api.list_under(image.digest, foreign)
    rule = {"prefix": "**", "tags": {"regex": "v1"}}
    report = run(tmp_path, without_api, rule)
    [row] = rows(report)["app:v1"].companions
    assert (row["outcome"], row["reason"]) == ("left out", "says that it refers to something else")
    assert report.complete
    assert run(tmp_path, without_api, rule).images == []


def test_companions_are_there_before_their_image_is_visible(upstream: Holder, tmp_path: Path) -> None:
    image = add_image(upstream, "v1")
    attach(upstream, image, SBOM, b"what is in it")
    seen = []
    with opened(tmp_path, upstream.url) as running:
        repository = type(running.store.repository(APP))
        put_tag = repository.put_tag

        def watched(self: Any, *args: Any, **more: Any) -> None:
            seen.append(bool(self.referrers(image.digest)))
            put_tag(self, *args, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(repository, "put_tag", watched)
            mirror(running)
    assert seen == [True]


def test_the_plan_shows_what_would_follow(upstream: Holder, tmp_path: Path) -> None:
    image = add_image(upstream, "v1")
    attach(upstream, image, SBOM, b"what is in it")
    with opened(tmp_path, upstream.url) as running:
        [planned] = plan_entry(running).images
    assert (planned.change, planned.companions) == ("add", 1)
    run(tmp_path, upstream)
    attach(upstream, image, BUNDLE, b"signed later")
    with opened(tmp_path, upstream.url) as running:
        plan = plan_entry(running)
    assert [(each.change, each.companions, each.new_bytes) for each in plan.images] == [("follow", 1, 12)]
    assert plan.to_json()["follow"][0]["companions"] == 1
    assert len(listed(tmp_path, image)) == 1, "a plan writes nothing"


def test_companions_stay_as_long_as_their_image(upstream: Holder, tmp_path: Path) -> None:
    image = add_image(upstream, "v1")
    sbom = attach(upstream, image, SBOM, b"what is in it")
    signature = attach(upstream, sbom, BUNDLE, b"signed")
    run(tmp_path, upstream)
    collect(store_of(tmp_path))
    assert stored(tmp_path, sbom, signature) == [True, True]
    assert run(tmp_path, upstream).images == []


def test_who_asks_for_an_image_by_name_gets_what_is_new_below_too(upstream: Holder, tmp_path: Path) -> None:
    """A poll asks about images only; `nested` and a run for one image ask about their companions as well."""
    image = add_image(upstream, "v1")
    sbom = attach(upstream, image, SBOM, b"what is in it")
    run(tmp_path, upstream)
    late = attach(upstream, sbom, BUNDLE, b"the SBOM is signed later")
    assert run(tmp_path, upstream).images == []
    assert rows(run(tmp_path, upstream, only=["app:v1"]))["app:v1"].reason == "1 new companion"
    assert listed(tmp_path, sbom) == {late.digest}


def test_nested_companions_can_be_asked_for_each_time(upstream: Holder, tmp_path: Path) -> None:
    rule = {"prefix": "**", "referrers": {"nested": True}}
    sbom = attach(upstream, add_image(upstream, "v1"), SBOM, b"what is in it")
    run(tmp_path, upstream, rule)
    assert run(tmp_path, upstream, rule).images == []
    late = attach(upstream, sbom, BUNDLE, b"the SBOM is signed later")
    run(tmp_path, upstream, rule)
    assert listed(tmp_path, sbom) == {late.digest}


def test_what_could_be_run_is_no_companion_where_only_signed_images_get_in(
    upstream: Holder, tmp_path: Path
) -> None:
    """Presence, as zot has it, so that no key is needed here: the image has something like a signature."""
    image = add_image(upstream, "v1")
    claim = {"image": {"docker-manifest-digest": image.digest}, "type": "cosign container image signature"}
    attach(
        upstream,
        image,
        "application/vnd.dev.cosign.artifact.sig.v1+json",
        json.dumps({"critical": claim | {"identity": {"docker-reference": ""}}, "optional": None}).encode(),
        layer_type="application/vnd.dev.cosign.simplesigning.v1+json",
        layer_annotations={"dev.cosignproject.cosign/signature": "c2lnbmVk"},
    )
    smuggled = attach(upstream, image, SBOM, b"run me", layer_type=LAYER, config=OCI_CONFIG)
    report = run(tmp_path, upstream, onlySigned=True)
    row = rows(report)["app:v1"]
    assert row.outcome is Outcome.COPIED, row.reason
    assert smuggled.digest not in listed(tmp_path, image)
    assert any("is of no format that may follow" in each["reason"] for each in row.companions)
