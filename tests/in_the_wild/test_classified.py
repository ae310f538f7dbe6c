"""Tags that are named after a digest: what a poll costs, what a policy and a pull make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from tasks.filter_tags.referrer_lists import NO_IMAGE
from tasks.planning import plan_entry
from tests.in_the_wild.cases.classified import (
    ABSENT,
    APP,
    V1,
    arrange_referrers,
    image_under,
    index_under,
    stem,
)
from tests.on_demand.mirrors import document, mirroring
from tests.tasks.runs import add_index, asked, mirror, opened, rows, store_of, sync, visible
from tests.tasks.test_verifying import OURS, policy, sign

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

AMD64 = Platform("linux", "amd64")


@pytest.mark.parametrize(
    ("arrange", "heads"),
    [
        pytest.param(arrange_referrers, 2, id="a list, whose digest serves for its referrers as well"),
        pytest.param(index_under(stem(ABSENT), None), 2, id="a list of what is not here"),
        pytest.param(index_under(stem(ABSENT), AMD64), 2, id="an image for several platforms"),
        pytest.param(image_under(stem(ABSENT)), 2, id="an image"),
    ],
)
def test_what_was_told_apart_once_costs_a_head(
    tmp_path: Path, upstream: Misbehaving, arrange: object, heads: int
) -> None:
    assert callable(arrange)
    arrange(upstream)
    sync(tmp_path, upstream)
    asked(upstream)
    report = sync(tmp_path, upstream)
    assert report.images == []
    assert asked(upstream) == {"HEAD manifests": heads, "GET tags": 1}


def test_a_new_list_is_fetched_once(tmp_path: Path, upstream: Misbehaving) -> None:
    """To tell what it is, and for the referrers that it names: one GET of it."""
    arrange_referrers(upstream)
    sync(tmp_path, upstream)
    body = upstream.repositories[APP].manifests[stem(V1)][1]
    paths = [each.path for each in upstream.requests("GET", "/manifests/")]
    assert sum(path.endswith((Digest.of(body), stem(V1))) for path in paths) == 1


def test_a_plan_counts_and_names_what_is_no_image(tmp_path: Path, upstream: Misbehaving) -> None:
    arrange_referrers(upstream)
    with opened(tmp_path, f"http://{upstream.host}") as run:
        plan = plan_entry(run).to_json()
    assert plan["droppedTags"] == {NO_IMAGE: 1}
    assert plan["droppedExamples"] == {NO_IMAGE: [f"{APP}:{stem(V1)}"]}


def test_a_policy_judges_an_image_under_such_a_tag_as_an_image(tmp_path: Path, upstream: Misbehaving) -> None:
    """That its tag names a signed image is no signature, in whatever format it comes."""
    signed = upstream.add_image("app", "signed", (b"good",)).manifest.digest
    sign(upstream, signed, OURS)
    upstream.add_image("app", stem(signed), (b"evil",))
    child = upstream.add_image("app", "child", (b"evil too",)).manifest
    entry = Descriptor(child.media_type, child.digest, child.size, platform=AMD64)
    add_index(upstream, "app", stem(ABSENT), entry)
    both = upstream.add_image("app", "both", (b"fine",)).manifest.digest
    sign(upstream, both, OURS)
    own, body = stem(both), upstream.repositories["app"].manifests["both"][1]
    upstream.add_manifest("app", own, body, media_types.OCI_MANIFEST)
    with opened(tmp_path, f"http://{upstream.host}", more=policy(upstream)) as run:
        report = mirror(run)
    shown = {name for name in visible(store_of(tmp_path)) if not name.endswith(".sig")}
    assert shown == {"app:signed", "app:both", f"app:{own}"}
    for tag in (stem(signed), stem(ABSENT)):
        assert "it has no signature" in rows(report)[f"app:{tag}"].reason


@pytest.mark.parametrize("enforce", [False, True])
def test_on_demand_a_list_is_no_image_and_an_image_is_one(
    tmp_path: Path, upstream: Misbehaving, *, enforce: bool
) -> None:
    arrange_referrers(upstream)
    upstream.add_image(APP, stem(ABSENT), (b"by digest",))
    more = policy(upstream) if enforce else None
    with mirroring(tmp_path, document(f"http://{upstream.host}"), more=more) as found:
        path = f"/v2/{APP}/manifests/"
        answer = found.client.get(path + stem(V1))
        assert answer.status_code == 404
        assert NO_IMAGE in answer.text
        assert found.client.get(path + stem(ABSENT)).status_code == (403 if enforce else 200)
        found.work.wait()
        assert visible(found.store) == ([] if enforce else [f"{APP}:{stem(ABSENT)}"])
