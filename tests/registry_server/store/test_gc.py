"""Garbage collection, alone in the store: what goes, what stays, and when."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreError, StoreLocked, StoreMissing
from registry_server.store.gc import Care, GcOptions, collect, last_report
from registry_server.store.records import PollRecord
from registry_server.store.retention import KeepTags, Limits, Policy, Retention
from registry_server.store.store import Store
from registry_server.store.upload_files import UploadUnknown
from tests.registry_server.store.images import (
    check,
    files_below,
    image,
    index,
    layer,
    put_image,
    record,
    tag_image,
)

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.repository import Repository
    from registry_server.store.verdicts import GcReport, Removal

A, B, C = b"layer a", b"layer b", b"layer c"
OPTIONS = GcOptions(delay=3600.0, settle=0.0)


def gc(store: Store, options: GcOptions = OPTIONS, **care: object) -> GcReport:
    return collect(store, {store.root: options}, Care(**care))  # type: ignore[arg-type]  # any of its fields


def age(store: Store, days: float = 1.0) -> None:
    """Everything in the store was written so many days earlier."""
    for path in files_below(store.root):
        found = os.lstat(path)
        os.utime(path, (found.st_atime, found.st_mtime - days * 86400), follow_symlinks=False)


def in_pool(store: Store, content: bytes) -> bool:
    name = layer(content).digest.hex
    return (store.root / "blobs/sha256" / name[:2] / name).exists()


def untag(repository: Repository, tag: str) -> None:
    repository.delete_tag(Tag(tag))


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
    assert len(list((store.root / "trash").glob("*/*"))) == 2
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
        ("leftover", f"incoming/{left.name}", "a blob that never became whole"),
        ("manifest", f"library/nginx@{gone.digest}", "no tag leads to it"),
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
    gc(store, GcOptions(settle=0.0, retention=Retention((Policy(delete_referrers=delete),))))
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
    gc(store, GcOptions(delay=-1.0, settle=0.0))
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
    marker = store.root / "repos/library/nginx/_r/blobs" / layer(A).digest.replace(":", "-")
    age(store)

    def settle(_: float) -> None:
        assert not in_pool(store, A)
        marker.touch()

    report = gc(store, sleep=settle)
    assert report.restored == 1
    assert in_pool(store, A)
    assert nginx.has_blob(layer(A).digest)


def test_a_collector_that_died_half_way_is_followed_by_one_that_looks_again(
    store: Store, nginx: Repository
) -> None:
    tag_image(nginx, "1", A)
    path = nginx.find_blob(layer(A).digest).path
    (store.root / "trash/7").mkdir(parents=True)
    path.rename(store.root / "trash/7" / layer(A).digest.replace(":", "-"))
    report = gc(store)
    assert report.restored == 1
    assert path.read_bytes() == A
    assert check(store) == 1


# What cannot be read is kept.


def test_a_manifest_that_is_lost_leaves_everything_of_its_repository_alone(
    store: Store, nginx: Repository, other: Repository
) -> None:
    lost = tag_image(nginx, "1", A)
    tag_image(nginx, "2", B)
    tag_image(other, "1", C)
    untag(nginx, "2")
    untag(other, "1")
    nginx.find_manifest(lost.digest).path.unlink()
    age(store)
    report = gc(store)
    assert len(report.problems) == 1
    assert f"library/nginx@{lost.digest}: the manifest is missing" in report.problems[0]
    assert not report.well
    assert in_pool(store, A)
    assert in_pool(store, B)
    assert not in_pool(store, C)


def test_a_damaged_manifest_and_an_unreadable_tag_count_as_unknown(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", A)
    put_image(nginx, B)
    path = nginx.find_manifest(Tag("1")).path
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
    age(store)
    assert "is damaged" in gc(store).problems[0]
    assert in_pool(store, B)


def test_an_unreadable_tag_leaves_everything_alone(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", A)
    (store.root / "repos/library/nginx/_r/tags/1").write_bytes(b"")
    age(store)
    assert "the tag cannot be read" in gc(store).problems[0]
    assert in_pool(store, A)


def test_without_its_repositories_nothing_is_swept(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", A)
    age(store)
    (store.root / "repos").rename(store.root / "unmounted")
    with pytest.raises(StoreMissing, match="is its volume mounted"):
        gc(store)
    assert in_pool(store, A)


# Leftovers.


def test_old_incoming_blobs_go_unless_somebody_fills_them(store: Store, nginx: Repository) -> None:
    with nginx.receive_blob(layer(A)) as incoming:
        incoming.write(A[:3])
        age(store)
        gc(store)
        incoming.write(A[3:])
        incoming.commit()
    with nginx.receive_blob(layer(B)) as incoming:
        incoming.write(B[:3])
    gc(store)
    with nginx.receive_blob(layer(B)) as incoming:
        assert incoming.offset == 3
    age(store)
    assert gc(store).leftovers == 1
    with nginx.receive_blob(layer(B)) as incoming:
        assert incoming.offset == 0


def test_upload_sessions_that_nobody_writes_to_end(store: Store, nginx: Repository) -> None:
    uploads = store.uploads(nginx.name)
    old = uploads.begin(nginx.name)
    age(store)
    for folder in (store.root / "uploads").iterdir():
        os.utime(folder, (1.0, 1.0))
    young = uploads.begin(nginx.name)
    assert gc(store).leftovers == 1
    with pytest.raises(UploadUnknown):
        uploads.state(nginx.name, old)
    assert uploads.state(nginx.name, young).offset == 0


# The rest of the frame.


def test_one_collection_at_a_time(store: Store) -> None:
    with store.claim("gc"), pytest.raises(StoreLocked, match=str(os.getpid())):
        gc(store)


def test_it_ends_between_two_repositories_when_it_is_told_to(store: Store, nginx: Repository) -> None:
    nginx.put_blob(layer(A), A)
    age(store)
    gc(store, stopped=lambda: True)
    assert in_pool(store, A)


def test_each_root_is_collected_by_its_own_options(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a", subpaths={"/kube": tmp_path / "b"}, durability="none")
    main = store.repository(RepositoryName("library/nginx"))
    kube = store.repository(RepositoryName("kube/proxy"))
    for repository in (main, kube):
        repository.put_blob(layer(A), A)
    for root in ("a", "b"):
        for path in files_below(tmp_path / root):
            os.utime(path, (1.0, 1.0), follow_symlinks=False)
    collect(store, {tmp_path / "a": OPTIONS, tmp_path / "b": GcOptions(enabled=False)})
    assert not main.has_blob(layer(A).digest)
    assert kube.has_blob(layer(A).digest)
    collect(store, {tmp_path / "b": OPTIONS})
    assert not kube.has_blob(layer(A).digest)


def test_what_the_last_collection_did_is_remembered(store: Store) -> None:
    assert last_report(store) is None
    gc(store, dry_run=True)
    assert last_report(store) is None
    report = gc(store)
    assert last_report(store) == report.to_json()


@pytest.mark.parametrize("jump", [-86400.0, 86400.0], ids=["back", "forth"])
def test_a_clock_that_jumps_costs_no_tag(store: Store, nginx: Repository, jump: float) -> None:
    """What was written by one clock is judged by another: young things may go or stay, tagged ones stay."""
    tag_image(nginx, "1", A)
    put_image(nginx, B)
    for path in files_below(store.root):
        found = os.lstat(path)
        os.utime(path, (found.st_atime, found.st_mtime - jump), follow_symlinks=False)
    gc(store)
    gc(store)
    assert check(store) == 1
    assert in_pool(store, B) is (jump < 0)


# Retention.


def keep(pattern: str, **limits: float) -> KeepTags:
    return KeepTags(lambda tag: pattern in tag, Limits(**limits))  # type: ignore[arg-type]  # by name


def test_tags_that_no_rule_keeps_go_with_their_images(store: Store, nginx: Repository) -> None:
    for tag, content in (("v1", A), ("v2", B), ("nightly", C)):
        tag_image(nginx, tag, content)
    retention = Retention((Policy(keep_tags=(keep("v"),)),), delay=0.0)
    age(store)
    told: list[Removal] = []
    report = gc(store, GcOptions(settle=0.0, retention=retention), told=told.append)
    assert nginx.tags() == ["v1", "v2"]
    assert report.tags == 1
    assert ("library/nginx:nightly", "no keepTags pattern takes it") in {(e.name, e.reason) for e in told}
    assert not in_pool(store, C)
    assert check(store) == 2


def test_retention_in_a_dry_run_of_its_own_tells_and_keeps(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "nightly", A)
    put_image(nginx, B)
    nginx.put_blob(layer(C), C)
    age(store)
    retention = Retention((Policy(keep_tags=(keep("v"),)),), delay=0.0, dry_run=True)
    told: list[Removal] = []
    gc(store, GcOptions(settle=0.0, retention=retention), told=told.append)
    assert nginx.tags() == ["nightly"]
    assert {e.name for e in told if e.kind == "rehearsal"} == {
        "library/nginx:nightly",
        f"library/nginx@{image(A).descriptor().digest}",
        f"library/nginx@{image(B).descriptor().digest}",
    }
    assert in_pool(store, B)
    assert not in_pool(store, C)  # that is garbage, and nothing that retention is asked about


def test_companion_tags_stay_with_their_image_and_go_with_it(store: Store, nginx: Repository) -> None:
    for tag, content in (("v1", A), ("old", B)):
        found = tag_image(nginx, tag, content)
        tag_image(nginx, found.digest.replace(":", "-") + ".sig", b"signature of " + content)
    tag_image(nginx, f"sha256-{'0' * 64}.att", b"of something that is not here")
    age(store)
    policy = Policy(keep_tags=(keep("v"),))
    gc(store, GcOptions(settle=0.0, retention=Retention((policy,), delay=0.0)))
    kept = image(A).descriptor().digest.replace(":", "-") + ".sig"
    assert nginx.tags() == [f"sha256-{'0' * 64}.att", kept, "v1"]
    assert check(store) == 3
    assert not nginx.has_blob(Digest(image(B).descriptor().digest))


def test_what_was_pulled_lately_is_kept_by_its_pulls(store: Store, nginx: Repository) -> None:
    for tag, content in (("pulled", A), ("idle", B)):
        tag_image(nginx, tag, content)
    untagged = put_image(nginx, C)
    age(store, days=60)
    nginx.note_pull(Tag("pulled"))
    nginx.note_pull(untagged.digest)
    policy = Policy(keep_tags=(keep("", pulled_within=86400.0),), keep_untagged=Limits(pulled_within=86400.0))
    gc(store, GcOptions(settle=0.0, retention=Retention((policy,))))
    assert nginx.tags() == ["pulled"]
    assert nginx.has_blob(untagged.digest)
    pulls = store.root / "repos/library/nginx/_r/pulls"
    seen = (pulls / "pulled").stat().st_mtime_ns
    nginx.note_pull(Tag("pulled"))  # once an hour is enough
    assert (pulls / "pulled").stat().st_mtime_ns == seen
    age(store, days=60)
    gc(store, GcOptions(settle=0.0, retention=Retention((policy,))))
    assert nginx.tags() == []
    assert list(pulls.iterdir()) == []


def test_a_full_store_is_an_error_of_ours(store: Store) -> None:
    (store.root / "locks" / "gc").mkdir()
    with pytest.raises(StoreError):
        gc(store)
