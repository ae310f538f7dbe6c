"""Writing: what is refused, in which order things become visible, what is remembered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch, ManifestUnknown, SizeMismatch
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store import records
from registry_server.store.errors import ClosureIncomplete, StillNeeded, TagMoved
from registry_server.store.records import PollRecord, TagRecord
from registry_server.store.store import Store
from tests.registry_server.store.images import (
    check,
    files_below,
    image,
    index,
    layer,
    manifest,
    put_image,
    record,
    tag_image,
)

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.filesystem.durability import Durability
    from registry_server.store.repository import Repository

LAYER = b"layer"
FOREIGN_TYPE = "application/vnd.oci.image.layer.nondistributable.v1.tar"


def test_an_image_is_written_with_each_durability(tmp_path: Path, durability: Durability) -> None:
    store = Store.open(tmp_path / "store", durability=durability)
    nginx = store.repository(RepositoryName("library/nginx"))
    tag_image(nginx, "1", LAYER)
    with nginx.receive_blob(layer(b"other")) as incoming:
        incoming.write(b"other")
        incoming.commit()
    nginx.put_poll(PollRecord("registry1", 1.0))
    store.sync()
    nginx.delete_tag(Tag("1"))
    tag_image(nginx, "2", b"other")
    assert check(Store.open(tmp_path / "store", create=False)) == 1


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(LAYER[:-1], SizeMismatch, id="short"),
        pytest.param(LAYER + b"!", SizeMismatch, id="one-byte-too-many"),
        pytest.param(LAYER.upper(), DigestMismatch, id="other-bytes"),
    ],
)
def test_a_wrong_small_blob_leaves_no_trace(
    store: Store, nginx: Repository, content: bytes, error: type[Exception]
) -> None:
    before = files_below(store.root)
    with pytest.raises(error):
        nginx.put_blob(layer(LAYER), content)
    assert files_below(store.root) == before


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_under_another_digest_leaves_no_trace(
    store: Store, nginx: Repository, algorithm: str
) -> None:
    before = files_below(store.root)
    with pytest.raises(DigestMismatch):
        nginx.put_manifest(image(LAYER), Digest.of(b"another", algorithm))
    assert files_below(store.root) == before


def test_writing_again_changes_nothing(store: Store, nginx: Repository) -> None:
    subject = image(b"subject").descriptor()
    signature = image(subject=subject.to_json())
    tag_image(nginx, "1", LAYER)
    nginx.put_manifest(signature)
    before = {
        path: (store.root / path).stat().st_ino for path in files_below(store.root) if "/tags/" not in path
    }
    tag_image(nginx, "1", LAYER)
    nginx.put_manifest(signature)
    after = {
        path: (store.root / path).stat().st_ino for path in files_below(store.root) if "/tags/" not in path
    }
    assert after == before


def test_one_body_has_the_media_type_that_was_put_last(nginx: Repository) -> None:
    body = image(LAYER).body.replace(b'"mediaType": "' + media_types.OCI_MANIFEST.encode() + b'", ', b"")
    for media_type in (media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST):
        descriptor = nginx.put_manifest(parse_manifest(body, media_type))
        assert nginx.find_manifest(descriptor.digest).descriptor.media_type == media_type


# Invariant 1: a visible tag implies its whole closure.


def test_a_tag_on_a_manifest_that_is_not_here_is_refused(nginx: Repository, other: Repository) -> None:
    descriptor = put_image(other, LAYER)
    with pytest.raises(ManifestUnknown):
        nginx.put_tag(Tag("1"), record(descriptor))
    assert nginx.tag(Tag("1")) is None


def test_a_tag_on_an_image_that_lacks_a_layer_is_refused(nginx: Repository) -> None:
    nginx.put_blob(layer(b"{}"), b"{}")
    descriptor = nginx.put_manifest(image(LAYER))
    with pytest.raises(ClosureIncomplete, match=r"library/nginx:1: .* 1 of the blobs") as caught:
        nginx.put_tag(Tag("1"), record(descriptor))
    assert caught.value.missing == (layer(LAYER).digest,)
    assert caught.value.retryable
    assert nginx.tags() == []


def test_a_tag_is_refused_when_a_layer_is_missing_two_levels_down(nginx: Repository) -> None:
    nginx.put_blob(layer(b"{}"), b"{}")
    child = image(LAYER)
    middle = index(child)
    top = index(middle)
    for each in (child, middle, top):
        descriptor = nginx.put_manifest(each)
    with pytest.raises(ClosureIncomplete, match=layer(LAYER).digest):
        nginx.put_tag(Tag("1"), record(descriptor))
    nginx.put_blob(layer(LAYER), LAYER)
    nginx.put_tag(Tag("1"), record(descriptor))
    assert nginx.tags() == ["1"]


def test_children_declared_sparse_may_be_absent_and_no_others(nginx: Repository) -> None:
    here, absent = image(b"1"), image(b"2")
    put_image(nginx, b"1")
    descriptor = nginx.put_manifest(index(here, absent))
    with pytest.raises(ClosureIncomplete):
        nginx.put_tag(Tag("1"), record(descriptor, here.descriptor().digest))
    nginx.put_tag(Tag("1"), record(descriptor, absent.descriptor().digest))
    assert nginx.tags() == ["1"]


def test_a_foreign_layer_and_a_subject_may_be_absent(nginx: Repository) -> None:
    nginx.put_blob(layer(b"{}"), b"{}")
    foreign = layer(b"windows", FOREIGN_TYPE).to_json() | {"urls": ["https://example.com/x"]}
    config = layer(b"{}", media_types.OCI_CONFIG).to_json()
    subject = image(b"subject").descriptor().to_json()
    document = {"mediaType": media_types.OCI_MANIFEST, "config": config, "layers": [foreign]}
    descriptor = nginx.put_manifest(manifest(document | {"subject": subject}))
    nginx.put_tag(Tag("1"), record(descriptor))
    assert nginx.tags() == ["1"]


def test_an_index_of_blobs_can_be_tagged(nginx: Repository) -> None:
    # BuildKit's cache (`type=registry`) lists layers and its own config in an index.
    entries = [layer(b"cached"), layer(b"config", "application/vnd.buildkit.cacheconfig.v0")]
    document = {"mediaType": media_types.OCI_INDEX, "manifests": [each.to_json() for each in entries]}
    descriptor = nginx.put_manifest(manifest(document))
    with pytest.raises(ClosureIncomplete):
        nginx.put_tag(Tag("cache"), record(descriptor))
    nginx.put_blob(entries[0], b"cached")
    nginx.put_blob(entries[1], b"config")
    nginx.put_tag(Tag("cache"), record(descriptor))
    assert nginx.tags() == ["cache"]


def test_a_refused_tag_leaves_the_old_one(nginx: Repository) -> None:
    old = tag_image(nginx, "1", LAYER)
    new = nginx.put_manifest(image(b"never fetched"))
    with pytest.raises(ClosureIncomplete):
        nginx.put_tag(Tag("1"), record(new))
    assert nginx.find_manifest(Tag("1")).descriptor.digest == old.digest


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_condition_holds_of_what_is_overwritten_also_where_the_turn_was_lost(
    store: Store, nginx: Repository
) -> None:
    old, new, theirs = (record(put_image(nginx, content)) for content in (b"old", b"new", b"theirs"))
    nginx.put_tag(Tag("v1"), old)
    looks: list[TagRecord | None] = []

    def is_old(held: TagRecord | None) -> bool:
        looks.append(held)
        if len(looks) == 1:  # meanwhile another host has the turn
            content = records.encode(records.tag_to_json(theirs))
            store.roots[0].objects.put(f"{nginx.folder}/tags/v1", content)
        return held is not None and held.digest == old.digest

    with pytest.raises(TagMoved):
        nginx.put_tag(Tag("v1"), new, only_if=is_old)
    assert nginx.tag(Tag("v1")) == theirs


def test_a_deleted_tag_leaves_the_manifest_and_may_be_deleted_again(nginx: Repository) -> None:
    descriptor = tag_image(nginx, "1", LAYER)
    nginx.delete_tag(Tag("1"))
    nginx.delete_tag(Tag("1"))
    assert nginx.tags() == []
    assert nginx.find_manifest(descriptor.digest).descriptor.digest == descriptor.digest


def test_deleting_a_tag_where_nothing_is_makes_nothing(store: Store, nginx: Repository) -> None:
    before = files_below(store.root)
    nginx.delete_tag(Tag("1"))
    assert files_below(store.root) == before
    assert not nginx.exists


# Polls.


def test_a_poll_is_remembered_for_a_repository_that_does_not_exist_yet(
    store: Store, nginx: Repository
) -> None:
    poll = PollRecord("registry1", 2.0, 1.0, {"1": Digest.of(LAYER)}, {"": "401 Unauthorized"})
    nginx.put_poll(PollRecord("registry1", 1.0))
    nginx.put_poll(poll)
    assert nginx.polls() == (poll,)
    assert not nginx.exists
    assert store.repositories() == []


def test_polls_of_a_repository_and_of_one_inside_it_are_two(store: Store) -> None:
    for name in ("a", "a/b"):
        store.repository(RepositoryName(name)).put_poll(PollRecord(name, 1.0))
    found = [store.repository(RepositoryName(name)).polls() for name in ("a", "a/b")]
    assert [poll.registry for [poll] in found] == ["a", "a/b"]


def test_each_entry_that_feeds_a_repository_has_its_poll_as_long_as_the_profile_has_it(
    nginx: Repository,
) -> None:
    for number, name in enumerate(("one", "two", "one", "three")):
        nginx.put_poll(PollRecord(name, float(number)), keep=("one", "two", "three"))
    assert [(poll.registry, poll.checked) for poll in nginx.polls()] == [("three", 3), ("one", 2), ("two", 1)]
    assert nginx.poll("two") == PollRecord("two", 1.0)
    nginx.put_poll(PollRecord("one", 4.0), keep=("one", "two"))
    assert [poll.registry for poll in nginx.polls()] == ["one", "two"]
    assert nginx.poll("three") is None


def test_polls_of_entries_that_end_at_the_same_moment_are_all_kept(store: Store) -> None:
    names, start = ("one", "two", "three", "four"), threading.Barrier(4)

    def put(entry: str) -> None:
        for number in range(25):
            start.wait(20)
            repository = store.repository(RepositoryName(f"app{number}"))
            repository.put_poll(PollRecord(entry, 1.0), keep=names)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(put, names))
    for number in range(25):
        polls = store.repository(RepositoryName(f"app{number}")).polls()
        assert {poll.registry for poll in polls} == {*names}


def test_what_one_tag_leaves_out_another_one_on_the_same_index_needs(store: Store, nginx: Repository) -> None:
    """Content rules with other platforms fill the same repository."""
    children = image(LAYER), image(b"another")
    both = nginx.put_manifest(index(*children))
    for content in (b"{}", LAYER, b"another"):
        nginx.put_blob(layer(content), content)
    for child in children:
        nginx.put_manifest(child)
    left_out = children[1].descriptor().digest
    nginx.put_tag(Tag("1-amd64"), record(both, left_out))
    nginx.put_tag(Tag("2"), record(both))
    with pytest.raises(StillNeeded, match="library/nginx:2 needs"):
        nginx.delete_manifest(left_out)
    assert check(store) == 2
    nginx.delete_tag(Tag("2"))
    nginx.delete_manifest(left_out)
