"""What other registries answer beside yes, and what a run makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.push_target import PushTarget, push_target
from tests.support.registry_answers import HARBOR_QUOTA, ecr_immutable, harbor_immutable
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.destinations.syncing import LAYER, assert_whole, sync_to
from tests.tasks.runs import asked, store_of, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NGINX = "library/nginx"
FOREIGN = ("application/vnd.oci.image.manifest.v1+json", b'{"schemaVersion":2}')


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        found.add_image(NGINX, "1", layers=(LAYER,))
        yield found


@pytest.fixture
def target() -> Iterator[PushTarget]:
    with push_target() as found:
        yield found


def moved(target: PushTarget) -> None:
    """Somebody else sets the tag."""
    target.manifests[NGINX]["1"] = FOREIGN


@pytest.mark.parametrize("synced", [True, False], ids=["after a sync of ours", "before any sync"])
def test_a_tag_that_somebody_else_set_is_left_and_reported(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, *, synced: bool
) -> None:
    if synced:
        sync_to(tmp_path, upstream, target)
    moved(target)
    report = sync_to(tmp_path, upstream, target)
    assert target.manifests[NGINX]["1"] == FOREIGN
    (image,) = report.images
    assert image.outcome == "left out"
    assert (
        "somebody else has set it in destination other, where library/nginx:1 names sha256:" in image.reason
    )
    assert report.complete


def test_force_overwrites_what_somebody_else_set(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    moved(target)
    sync_to(tmp_path, upstream, target, destination={"force": True})
    assert_whole(target, NGINX, "1")


def test_a_tag_that_somebody_moved_beside_the_store_is_a_note_and_the_store_goes_on(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    moved(target)
    for _ in range(2):
        report = sync_to(tmp_path, upstream, target, to=("store", "other"))
        assert report.complete
        assert any("somebody else has set it in destination other" in note for note in report.notes)
    assert visible(store_of(tmp_path)) == [f"{NGINX}:1"]
    assert target.manifests[NGINX]["1"] == FOREIGN


def test_a_tag_that_somebody_set_to_the_same_image_is_taken_over(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    sync_to(tmp_path / "one", upstream, target)
    report = sync_to(tmp_path / "two", upstream, target)
    assert report.message == "1 of 1 images"
    assert target.received[NGINX] == len(LAYER) + 2
    assert sync_to(tmp_path / "two", upstream, target).unchanged == 1


def test_a_tag_that_was_deleted_there_is_put_again_without_a_blob(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    sync_to(tmp_path, upstream, target)
    del target.manifests[NGINX]["1"]
    asked(upstream)
    sync_to(tmp_path, upstream, target)
    assert_whole(target, NGINX, "1")
    assert asked(upstream)["GET blobs"] == 0


@pytest.mark.parametrize("of_index", [False, True], ids=["an image", "an index"])
def test_content_that_a_clean_up_took_there_is_brought_again_in_one_run(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, *, of_index: bool
) -> None:
    if of_index:
        from registry_server.oci import media_types
        from tests.tasks.runs import add_document

        children = [upstream.add_image(NGINX, f"c{n}", layers=(b"%d" % n,)).manifest for n in range(3)]
        entries = [child.to_json() for child in children]
        add_document(upstream, NGINX, "1", media_types.OCI_INDEX, manifests=entries)
    rule = {"prefix": NGINX, "tags": {"regex": "1"}}
    sync_to(tmp_path, upstream, target, rule)
    target.manifests.clear()
    target.blobs.clear()
    report = sync_to(tmp_path, upstream, target, rule)
    assert report.message == "1 of 1 images"
    assert_whole(target, NGINX, "1")
    assert any("it is brought again" in note for note in report.notes)


@pytest.mark.parametrize("answer", [ecr_immutable, harbor_immutable])
def test_an_immutable_tag_is_an_answer_and_no_failure(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, answer: Callable[[str, str], Any]
) -> None:
    sync_to(tmp_path, upstream, target)
    target.immutable = answer
    before = target.tag(NGINX, "1")
    upstream.add_image(NGINX, "1", layers=(b"newer",))
    report = sync_to(tmp_path, upstream, target)
    (image,) = report.images
    assert (image.outcome, report.complete) == ("left out", True)
    assert "immutable in destination other" in image.reason
    assert before in image.reason
    assert target.tag(NGINX, "1") == before


@pytest.mark.parametrize("answer", [ecr_immutable, harbor_immutable])
def test_an_immutable_tag_that_names_the_image_already_is_in_place(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, answer: Callable[[str, str], Any]
) -> None:
    sync_to(tmp_path / "one", upstream, target)
    target.immutable = answer
    assert sync_to(tmp_path / "two", upstream, target).message == "1 of 1 images"
    assert sync_to(tmp_path / "two", upstream, target).unchanged == 1


def test_a_quota_fails_the_image_in_the_words_of_the_registry(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    target.quota = HARBOR_QUOTA
    report = sync_to(tmp_path, upstream, target)
    (image,) = report.images
    assert image.outcome == "failed"
    assert "destination other: " in image.reason
    assert "upper limit of 10.0 MiB" in image.reason


def test_a_failure_beside_the_store_does_not_keep_the_image_from_the_store(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    target.quota = HARBOR_QUOTA
    report = sync_to(tmp_path, upstream, target, to=("store", "other"))
    assert not report.complete
    target.quota = None
    asked(upstream)
    assert sync_to(tmp_path, upstream, target, to=("store", "other")).complete
    assert asked(upstream)["GET blobs"] == 0
    assert_whole(target, NGINX, "1")


def test_a_destination_that_is_down_fails_its_tags_and_is_named(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    with push_target() as target:
        url = target.url
    report = sync_to(tmp_path, upstream, url)
    assert not report.complete
    assert "destination other: " in report.images[0].reason
    assert "connection refused" in report.images[0].reason


def test_a_token_that_expires_between_the_blobs_and_the_tag_is_renewed(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    with push_target(tokens=True) as target:
        upstream.on(f"/v2/{NGINX}/tags/list", lambda exchange: _list_and_expire(exchange, target))
        assert sync_to(tmp_path, upstream, target).complete
        upstream.add_image(NGINX, "1", layers=(LAYER, b"more"))
        target.expire()
        assert sync_to(tmp_path, upstream, target).complete
        assert_whole(target, NGINX, "1")


def _list_and_expire(exchange: Any, target: PushTarget) -> None:
    from tests.support_misbehaving import well_behaved

    target.expire()
    well_behaved(exchange)


def test_repositories_are_not_made_unless_the_profile_says_so(tmp_path: Path, upstream: Misbehaving) -> None:
    with push_target(known=set()) as target:
        report = sync_to(tmp_path, upstream, target)
    assert "The repository with name 'library/nginx' does not exist" in report.images[0].reason
