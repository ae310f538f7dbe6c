"""Companions that cannot be found, read or copied: what is reported, tried again and left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from tasks.publish_image.companions import lost_companions, retry_companions
from tasks.results.outcomes import Outcome
from tasks.run.errors import is_retryable
from tests.support.stored_files import file_of
from tests.support_misbehaving import answers, well_behaved
from tests.tasks.companies import APP, SBOM, WithApi, WithoutApi, add_image, attach, listed, run
from tests.tasks.runs import opened, rows, searched, store_of, visible

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tasks.companies import Holder


def test_a_companion_that_cannot_be_copied_is_reported_and_tried_again(
    upstream: Holder, tmp_path: Path
) -> None:
    image = add_image(upstream, "v1")
    sbom = attach(upstream, image, SBOM, b"what is in it")
    kept = _break(upstream, b"what is in it")
    report = run(tmp_path, upstream)
    row = rows(report)["app:v1"]
    assert row.outcome is Outcome.COPIED
    assert [each["outcome"] for each in row.companions] == ["failed"]
    assert not report.complete
    assert any(str(sbom.digest) in problem for problem in report.problems)
    assert listed(tmp_path, image) == set()
    kept()
    assert rows(run(tmp_path, upstream))["app:v1"].reason == "1 new companion"
    assert listed(tmp_path, image) == {sbom.digest}


def _break(upstream: Holder, blob: bytes) -> Any:
    """A blob that cannot be had; call the result to mend that."""
    if isinstance(upstream, WithoutApi):
        address = f"/v2/app/blobs/{Digest.of(blob)}"
        upstream.server.on(address, answers(500))
        return lambda: upstream.server.on(address, well_behaved)
    assert isinstance(upstream, WithApi)
    path = file_of(upstream.registry.store.repository(APP), Digest.of(blob))
    away = path.with_name("away")
    path.rename(away)
    return lambda: away.rename(path)


def test_a_rule_can_say_that_an_image_fails_with_its_companions(upstream: Holder, tmp_path: Path) -> None:
    image = add_image(upstream, "v1")
    attach(upstream, image, SBOM, b"what is in it")
    mend = _break(upstream, b"what is in it")
    rule = {"prefix": "**", "referrers": {"onFailure": "image"}}
    row = rows(run(tmp_path, upstream, rule))["app:v1"]
    assert row.outcome is Outcome.FAILED
    assert "its companion" in row.reason
    assert visible(store_of(tmp_path)) == []
    mend()
    assert run(tmp_path, upstream, rule).complete


def test_a_list_that_cannot_be_read_is_no_empty_list(without_api: WithoutApi, tmp_path: Path) -> None:
    image = add_image(without_api, "v1")
    run(tmp_path, without_api)
    without_api.server.on(f"/v2/app/referrers/{image.digest}", answers(500))
    report = run(tmp_path, without_api)
    assert report.unchanged == 1
    assert not report.complete
    assert "what refers to 1 image of it could not be found out" in report.problems[0]


def test_a_task_that_is_tried_again_tries_its_lost_companions(
    without_api: WithoutApi, tmp_path: Path
) -> None:
    sbom = attach(without_api, image := add_image(without_api, "v1"), SBOM, b"what is in it")
    path = f"/v2/app/manifests/{sbom.digest}"
    without_api.server.on(path, answers(503))
    with opened(tmp_path, without_api.url) as running:
        batch = searched(running)
        batch.bring_in()
        [(name, error)] = lost_companions(batch.images).items()
        assert (name, is_retryable(error)) == ("app:v1", True)
        without_api.server.on(path, well_behaved)
        again = retry_companions(running, batch.images[0])
        assert lost_companions([again]) == {}
    assert listed(tmp_path, image) == {sbom.digest}


def test_what_is_listed_and_is_not_there_is_left_out(without_api: WithoutApi, tmp_path: Path) -> None:
    image = add_image(without_api, "v1")
    gone = attach(without_api, image, SBOM, b"gone")
    del without_api.server.repositories[APP].manifests[gone.digest]
    report = run(tmp_path, without_api)
    assert report.complete
    [row] = rows(report)["app:v1"].companions
    assert row["reason"] == "is listed, and is not there"


def test_too_many_companions_end(without_api: WithoutApi, tmp_path: Path) -> None:
    image = add_image(without_api, "v1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.companions.missing.MOST_COMPANIONS", 3)
        for number in range(5):
            attach(without_api, image, SBOM, b"%d" % number)
        report = run(tmp_path, without_api)
    assert len(listed(tmp_path, image)) == 3
    assert any("only 3 companions" in each["reason"] for each in rows(report)["app:v1"].companions)
