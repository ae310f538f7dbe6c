"""Garbage collection, alone in the store: what goes, what stays, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import Tag
from registry_server.store.gc.retention import GcOptions, RepositoryRetention, Retention
from registry_server.store.records import PollRecord
from tests.registry_server.store.gc.collecting import A, B, C, age, gc, in_pool, untag
from tests.registry_server.store.images import (
    FOLDER_ONLY,
    check,
    files_below,
    image,
    index,
    layer,
    put_image,
    record,
    tag_image,
)
from tests.support.stored_files import file_of, objects_folder

if TYPE_CHECKING:
    from registry_server.store.gc.gc_report import Removal
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store


def test_what_a_tag_needs_stays_however_old_it_is(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", A, B)
    child = put_image(nginx, C)
    both = nginx.put_manifest(index(image(C)))
    nginx.put_tag(Tag("all"), record(both))
    before = files_below(store.root)
    for _ in range(3):
        age(store)
        report = gc(store)
    assert (report.tags, report.manifests, report.markers, report.trashed, report.purged) == (0, 0, 0, 0, 0)
    assert files_below(store.root) - before <= {str(store.root / "locks/gc"), str(store.root / "gc.json")}
    assert nginx.has_blob(child.digest)
    assert check(store) == 2


def test_an_untagged_image_goes_after_the_delay_and_its_bytes_one_collection_later(
    store: Store, nginx: Repository
) -> None:
    tag_image(nginx, "1", A, B)
    tag_image(nginx, "2", B, C)
    untag(nginx, "2")
    gc(store)
    assert in_pool(store, C)
    age(store)
    report = gc(store)
    assert (report.manifests, report.trashed, report.purged) == (
        1,
        2,
        0,
    )  # the layer, and the manifest's body
    assert not in_pool(store, C)
    assert in_pool(store, B)
    assert len(list((objects_folder(store) / "trash").rglob("sha256-*"))) == 2
    report = gc(store)
    assert (report.trashed, report.purged) == (0, 2)
    assert report.purged_bytes > len(C)
    assert not (store.root / "trash").exists()
    assert check(store) == 1


def test_the_age_of_an_image_counts_from_the_moment_that_its_last_tag_moved(
    store: Store, nginx: Repository
) -> None:
    tag_image(nginx, "latest", A)
    age(store, days=30)
    old = image(A).descriptor().digest
    tag_image(nginx, "latest", B)
    gc(store)
    assert nginx.find_manifest(old).descriptor.digest == old
    age(store)
    gc(store)
    assert not nginx.has_blob(old)


def test_a_dry_run_says_what_would_go_and_why_and_changes_nothing(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", A)
    tag_image(nginx, "2", C)
    untag(nginx, "2")
    left = store.root / "incoming" / layer(B).digest.replace(":", "-")
    left.write_bytes(b"par")
    age(store)
    before = files_below(store.root)
    told: list[Removal] = []
    report = gc(store, dry_run=True, told=told.append)
    assert files_below(store.root) - {str(store.root / "locks/gc")} == before
    gone = image(C).descriptor()
    config = layer(b"{}").digest
    assert {(each.kind, each.name, each.reason) for each in told} == {
        ("leftover", f"incoming/{left.name}", "an incomplete blob"),
        ("manifest", f"library/nginx@{gone.digest}", "no tag needs it"),
        ("marker", f"library/nginx@{layer(C).digest}", "no manifest here names it"),
        ("blob", gone.digest, "no repository holds it"),
        ("blob", layer(C).digest, "no repository holds it"),
    }
    assert report.trashed_bytes == gone.size + len(C)
    assert nginx.has_blob(config)
    told_for_real: list[Removal] = []
    gc(store, told=told_for_real.append)
    assert set(told_for_real) == set(told)


def test_an_index_keeps_its_children_and_a_subject_its_referrers(store: Store, nginx: Repository) -> None:
    subject = tag_image(nginx, "1", A)
    put_image(nginx, B)
    nginx.put_manifest(image(B, subject=subject.to_json(), artifactType="x/signature"))
    signature = image(B, subject=subject.to_json(), artifactType="x/signature").descriptor()
    nginx.put_manifest(image(B, subject=signature.to_json(), artifactType="x/countersignature"))
    age(store)
    gc(store)
    assert [each.digest for each in nginx.referrers(subject.digest)] == [signature.digest]
    assert len(nginx.referrers(signature.digest)) == 1
    # With its tag the image goes, and what refers to it goes along.
    untag(nginx, "1")
    age(store)
    gc(store)
    assert nginx.referrers(subject.digest) == []
    assert not nginx.has_blob(signature.digest)
    assert not nginx.has_blob(subject.digest)


@pytest.mark.parametrize(("delete", "stays"), [(False, True), (True, False)])
def test_a_referrer_to_something_that_was_never_here_is_for_the_policy_to_judge(
    store: Store, nginx: Repository, *, delete: bool, stays: bool
) -> None:
    put_image(nginx, A)
    elsewhere = image(C).descriptor()
    referrer = nginx.put_manifest(image(A, subject=elsewhere.to_json()))
    age(store)
    gc(store, GcOptions(settle=0.0, retention=Retention((RepositoryRetention(delete_referrers=delete),))))
    assert nginx.has_blob(referrer.digest) is stays


def test_what_one_repository_gives_up_another_keeps(
    store: Store, nginx: Repository, other: Repository
) -> None:
    tag_image(nginx, "1", A)
    tag_image(other, "1", A)
    untag(nginx, "1")
    age(store)
    report = gc(store)
    assert (report.manifests, report.trashed) == (1, 0)
    assert not nginx.has_blob(layer(A).digest)
    assert other.has_blob(layer(A).digest)
    assert check(store) == 1


def test_blobs_without_a_manifest_are_kept_for_the_delay(store: Store, nginx: Repository) -> None:
    nginx.put_blob(layer(A), A)
    gc(store)
    assert nginx.has_blob(layer(A).digest)
    age(store)
    assert nginx.adopt_blob(layer(A).digest)  # somebody relies on it again
    gc(store)
    assert nginx.has_blob(layer(A).digest)
    age(store)
    gc(store)
    assert not nginx.has_blob(layer(A).digest)


def test_what_is_younger_than_a_lease_stays_whatever_the_delay(store: Store, nginx: Repository) -> None:
    with store.lease():
        nginx.put_blob(layer(A), A)
        gc(store, GcOptions(delay=0.0, settle=0.0))
        assert nginx.has_blob(layer(A).digest)
    age(store, days=1 / 100)  # in a bucket, some minutes are spared
    gc(store, GcOptions(delay=0.0, settle=0.0))
    assert not nginx.has_blob(layer(A).digest)
    assert list((store.root / "leases").iterdir()) == []


def test_the_lease_of_a_process_that_is_gone_does_not_count(store: Store, nginx: Repository) -> None:
    (store.root / "leases").mkdir()
    (store.root / "leases" / "1-abc").touch()
    nginx.put_blob(layer(A), A)
    age(store)
    gc(store)
    assert not nginx.has_blob(layer(A).digest)
    assert list((store.root / "leases").iterdir()) == []


@FOLDER_ONLY
def test_an_intent_counts_as_a_marker(store: Store, nginx: Repository) -> None:
    nginx.put_blob(layer(A), A)
    (store.root / "repos/library/nginx/_r/blobs" / layer(A).digest.replace(":", "-")).unlink()
    age(store)
    intent = store.root / "staging" / f"1-abc.{layer(A).digest.replace(':', '-')}"
    intent.touch()
    gc(store)
    assert in_pool(store, A)
    intent.unlink()
    gc(store)
    assert not in_pool(store, A)


def test_a_digest_that_the_profile_or_a_poll_names_needs_no_tag(
    store: Store, nginx: Repository, other: Repository
) -> None:
    pinned, polled = put_image(nginx, A), put_image(other, B)
    other.put_poll(PollRecord("registry1", 1.0, upstream={polled.digest: polled.digest}))
    age(store)
    gc(store, pinned={"library/nginx": {pinned.digest}})
    assert nginx.has_blob(layer(A).digest)
    assert other.has_blob(layer(B).digest)
    assert nginx.find_manifest(pinned.digest).descriptor.size == pinned.size
    assert other.find_manifest(polled.digest).descriptor.size == polled.size


def test_who_misses_a_blob_that_is_in_the_trash_takes_it_out(store: Store, nginx: Repository) -> None:
    nginx.put_blob(layer(A), A)
    nginx.put_blob(layer(B), B)
    age(store)
    gc(store)
    assert not in_pool(store, A)
    assert nginx.adopt_blob(layer(A).digest)
    assert in_pool(store, A)
    assert gc(store).purged == 1
    assert in_pool(store, A)
    assert not in_pool(store, B)


def test_what_got_a_marker_while_we_swept_comes_back(store: Store, nginx: Repository) -> None:
    nginx.put_blob(layer(A), A)
    age(store)

    def settle(_: float) -> None:
        assert not in_pool(store, A)
        nginx._objects.mark(nginx._blob_key(layer(A).digest))

    report = gc(store, sleep=settle)
    assert report.restored == 1
    assert in_pool(store, A)
    assert nginx.has_blob(layer(A).digest)


@FOLDER_ONLY
def test_a_collector_that_died_half_way_is_followed_by_one_that_looks_again(
    store: Store, nginx: Repository
) -> None:
    tag_image(nginx, "1", A)
    path = file_of(nginx, layer(A).digest)
    (store.root / "trash/7").mkdir(parents=True)
    path.rename(store.root / "trash/7" / layer(A).digest.replace(":", "-"))
    report = gc(store)
    assert report.restored == 1
    assert path.read_bytes() == A
    assert check(store) == 1
