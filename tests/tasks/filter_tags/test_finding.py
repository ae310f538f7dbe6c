"""What has changed: exactly one HEAD a tag, and GETs only for what is new. Counted at the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.reference import RepositoryName
from tasks.filter_tags.search import failure_of, filter_repositories
from tasks.list_catalog import wanted_repositories
from tasks.pipeline import Batch
from tasks.results.outcomes import Outcome
from tasks.run.errors import StepFailed, is_retryable
from tests.support.stored_files import file_of
from tests.support_behaviours import answers, well_behaved
from tests.tasks.runs import (
    asked,
    assert_complete,
    mirror,
    opened,
    rows,
    searched,
    store_of,
    sync,
    visible,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.registries import Registry
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
ALONE = {"follow": False}  # without what refers to an image: tests/tasks/companions asks for that


def test_a_poll_of_what_has_not_changed_is_one_head_a_tag_and_nothing_else(
    sample_upstream: Registry, tmp_path: Path
) -> None:
    with opened(tmp_path, sample_upstream.url, referrers=ALONE) as run:
        first = mirror(run)
    assert first.complete
    tags = sum(
        len(sample_upstream.store.repository(name).tags()) for name in sample_upstream.store.repositories()
    )
    sample_upstream.requests.new()
    with opened(tmp_path, sample_upstream.url, referrers=ALONE) as run:
        second = mirror(run)
        cost = run.upstream.requests()
    assert second.unchanged == second.total == tags
    assert second.images == []
    assert second.message == f"{tags} of {tags} images, nothing new"
    assert sample_upstream.requests.counts() == {"GET catalog": 2, "GET tags": 6, "HEAD manifest": tags}
    assert cost["HEAD manifest"] == tags, "what we say that we asked is what was asked"


def test_a_tag_that_moved_is_the_only_one_that_is_fetched(upstream: Misbehaving, tmp_path: Path) -> None:
    for tag in ("1.24", "1.25", "latest"):
        upstream.add_image(NAME, tag, (b"base", tag.encode()))
    sync(tmp_path, upstream)
    upstream.add_image(NAME, "latest", (b"base", b"newer"))
    asked(upstream)
    report = sync(tmp_path, upstream)
    assert {name: row.reason for name, row in rows(report).items()} == {
        f"{NAME}:latest": "moved to a new digest"
    }
    assert asked(upstream) == {
        "GET tags": 1, "HEAD manifests": 3, "GET manifests": 1, "GET blobs": 1,
    }  # fmt: skip
    assert_complete(store_of(tmp_path), f"{NAME}:latest")


def test_a_tag_that_the_upstream_took_away_stays_here(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image(NAME, "1.24")
    upstream.add_image(NAME, "1.25")
    sync(tmp_path, upstream)
    upstream.repositories[NAME].tags.remove("1.24")
    report = sync(tmp_path, upstream)
    assert report.message == "1 of 1 images, nothing new"
    assert visible(store_of(tmp_path)) == [f"{NAME}:1.24", f"{NAME}:1.25"]


def test_an_image_listed_by_digest_is_kept_without_a_tag_and_needs_no_list(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    digest = upstream.add_image(NAME, "1.25").manifest.digest
    rule = {"images": [f"{NAME}@{digest}"]}
    assert sync(tmp_path, upstream, rule, referrers=ALONE).message == "1 of 1 images"
    assert asked(upstream) == {"HEAD manifests": 1, "GET manifests": 1, "GET blobs": 2}
    repository = store_of(tmp_path).repository(RepositoryName(NAME))
    assert repository.find_manifest(digest).descriptor.digest == digest
    assert repository.tags() == []
    assert sync(tmp_path, upstream, rule, referrers=ALONE).message == "1 of 1 images, nothing new"
    assert asked(upstream) == {"HEAD manifests": 1}


def test_an_image_listed_by_digest_is_mended_when_a_part_of_it_went_away(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    image = upstream.add_image(NAME, "1.25", (b"one", b"two"))
    rule = {"images": [f"{NAME}@{image.manifest.digest}"]}
    sync(tmp_path, upstream, rule, referrers=ALONE)
    repository = store_of(tmp_path).repository(RepositoryName(NAME))
    file_of(repository, image.layers[1].digest).unlink()
    asked(upstream)
    assert sync(tmp_path, upstream, rule, referrers=ALONE).message == "1 of 1 images"
    assert asked(upstream) == {"HEAD manifests": 1, "GET blobs": 1}


def test_two_rules_bring_a_repository_to_two_places_with_one_head_and_one_get(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.add_image(NAME, "1.26-rc.1")
    rules = (
        {"prefix": "library/*"},
        {"prefix": NAME, "destination": "/stable", "tags": {"excludeRegex": ".*-rc.*"}},
    )
    report = sync(tmp_path, upstream, *rules)
    names = [f"{NAME}:1.25", f"{NAME}:1.26-rc.1", f"stable/{NAME}:1.25"]
    assert visible(store_of(tmp_path)) == sorted(rows(report)) == names
    assert asked(upstream) == {
        "GET tags": 1, "HEAD manifests": 2, "GET manifests": 1, "GET blobs": 2,
    }  # fmt: skip


def test_rules_that_meet_under_one_name_make_one_image_with_the_platforms_of_both(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    rules: tuple[dict[str, Any], ...] = (
        {"prefix": "library/*", "platforms": ["linux/arm64"], "select": "tag == 'never'"},
        {"prefix": "library/nginx", "platforms": ["linux/s390x"]},
    )
    upstream.add_image(NAME, "1.25")
    first = sync(tmp_path, upstream, *rules)
    assert [row.outcome for row in first.images] == [Outcome.COPIED]
    second = sync(tmp_path, upstream, *rules)
    assert (second.unchanged, second.total) == (1, 1)
    with opened(tmp_path / "other", f"http://{upstream.host}", *rules) as run:
        [image] = [each.image for each in searched(run).images]
    assert [str(platform) for platform in image.parts.platforms] == ["linux/arm64", "linux/s390x"]


def test_a_head_that_fails_is_the_problem_of_its_tag_only(upstream: Misbehaving, tmp_path: Path) -> None:
    for tag in ("1.24", "1.25", "1.26"):
        upstream.add_image(NAME, tag)
    upstream.on(f"/v2/{NAME}/manifests/1.25", answers(403))
    with opened(tmp_path, f"http://{upstream.host}") as run:
        [findings] = searched(run).record.findings.values()
    assert [str(image.reference) for image in findings.changed] == ["1.24", "1.26"]
    assert {str(name): reason for name, reason in findings.problems.items()} == {
        f"{NAME}:1.25": f"{upstream.host}: {NAME}:1.25: 403 Forbidden"
    }


def test_a_tag_that_is_not_grammatical_is_counted_and_not_asked_for(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.repositories[NAME].tags += ["../1.25", "-1", "ä", "x" * 129, ""]
    with opened(tmp_path, f"http://{upstream.host}") as run:
        [findings] = searched(run).record.findings.values()
    assert findings.dropped.counts == {"is not a tag by the rules of distribution-spec": 5}
    assert asked(upstream)["HEAD manifests"] == 1


def test_a_refused_catalog_costs_only_the_repositories_that_needed_it(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.add_image("apps/web", "1")
    upstream.on("/v2/_catalog", answers(401))
    report = sync(tmp_path, upstream, {"prefix": "apps/*"}, {"prefix": NAME})
    assert visible(store_of(tmp_path)) == [f"{NAME}:1.25"]
    assert report.message.startswith(f"1 of 1 images, {upstream.host}: 401 Unauthorized; ")
    assert not report.complete


def test_literal_names_ask_for_no_catalog_at_all(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.on("/v2/_catalog", answers(401))
    assert sync(tmp_path, upstream, {"prefix": NAME}, {"images": [f"{NAME}:1.25"]}).complete
    assert upstream.requests(path="_catalog") == []


def test_a_catalog_that_is_refused_and_all_there_was_to_go_by_ends_the_run(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.on("/v2/_catalog", answers(403))
    report = sync(tmp_path, upstream)
    assert report.message.startswith(f"{upstream.host}: 403 Forbidden; ")
    assert not report.complete


@pytest.mark.parametrize("item", [f"mirror/{NAME}:1.25", f"{NAME}:1.25", f"mirror/{NAME}", NAME], ids=str)
def test_only_may_name_the_image_as_here_or_as_there_and_the_other_reading_is_no_error(
    upstream: Misbehaving, tmp_path: Path, item: str
) -> None:
    upstream.add_image(NAME, "1.25")
    report = sync(tmp_path, upstream, {"prefix": "**", "destination": "/mirror"}, only=[item])
    assert report.message == "1 of 1 images"
    assert store_of(tmp_path).polled() == [f"mirror/{NAME}"]


def test_only_for_what_is_not_there_says_so(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image(NAME, "1.25")
    report = sync(tmp_path, upstream, only=[f"{NAME}:9"])
    assert report.problems == (
        f"{NAME}:9: no content rule takes it, or the upstream does not have it; see `mirrorflow explain`",
    )
    report = sync(tmp_path, upstream, only=["nowhere:9"])
    assert report.problems == (f"{upstream.host}: nowhere: 404 Not Found: NAME_UNKNOWN: not here",)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        pytest.param({"regex": "alpine"}, "zot would take 1 more tag (1.25-alpine)", id="a regex"),
        pytest.param(
            {"excludeRegex": "alpine"}, "zot would drop 1 tag taken here (1.25-alpine)", id="an exclusion"
        ),
    ],
)
def test_a_user_of_zot_is_told_what_a_pattern_would_do_there(
    upstream: Misbehaving, tmp_path: Path, tags: dict[str, str], told: str
) -> None:
    for tag in ("1.25-alpine", "alpine", "1.25"):
        upstream.add_image(NAME, tag)
    with opened(tmp_path, f"http://{upstream.host}", {"prefix": "**", "tags": tags}) as run:
        [findings] = searched(run).record.findings.values()
    [note] = findings.notes
    assert told in note
    assert "'.*(?:alpine).*'" in note


def test_a_search_that_failed_for_what_may_pass_is_repeated_for_that_alone(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1.24")
    upstream.add_image(NAME, "1.25", (b"another",))
    upstream.on(f"/v2/{NAME}/manifests/1.25", answers(503, Retry_After="7200"), well_behaved)
    with opened(tmp_path, f"http://{upstream.host}", maxRetries=1, retryDelay=1) as run:
        sources = wanted_repositories(run).repositories
        batch = Batch(run)
        with pytest.raises(StepFailed, match=r"1 of 2 failed: library/nginx:1\.25: .*503") as caught:
            batch.filter_tags(sources)
        assert is_retryable(caught.value)
        assert [str(each.image.name) for each in batch.images] == [f"{NAME}:1.24"]
        batch.filter_tags(sources)
        assert len(batch.images) == 2
    heads = [each.path.rpartition("/")[2] for each in upstream.requests("HEAD")]
    assert sorted(heads) == ["1.24", "1.25", "1.25"]


def test_a_search_that_failed_for_good_is_not_repeated(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.on(f"/v2/{NAME}/manifests/1.25", answers(403))
    with opened(tmp_path, f"http://{upstream.host}", maxRetries=1, retryDelay=1) as run:
        sources = wanted_repositories(run).repositories
        [first] = filter_repositories(run, sources)
        error = failure_of([first])
        assert error is not None
        assert "403 Forbidden" in str(error)
        assert not is_retryable(error)
        asked(upstream)
        assert filter_repositories(run, sources, [first]) == [first]
    assert asked(upstream) == {}


def test_a_list_of_referrers_that_fails_for_what_may_pass_is_asked_for_again(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    image = upstream.add_image(NAME, "1.25")
    sync(tmp_path, upstream)
    referrers = f"/v2/{NAME}/referrers/{image.manifest.digest}"
    upstream.on(referrers, answers(503, Retry_After="7200"), well_behaved)
    asked(upstream)
    with opened(tmp_path, f"http://{upstream.host}", maxRetries=1, retryDelay=1) as run:
        sources = wanted_repositories(run).repositories
        batch = Batch(run)
        with pytest.raises(StepFailed, match=f"what refers to images of {NAME}: .*503"):
            batch.filter_tags(sources)
        batch.filter_tags(sources)
        assert batch.images == []
    assert len(upstream.requests("HEAD")) == 1
    assert len(upstream.requests("GET", "/referrers/")) == 2
