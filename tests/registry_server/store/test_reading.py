"""Reading: what is there, what is not, and how each says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import BlobUnknown, ManifestUnknown, RepositoryUnknown
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreDamaged
from registry_server.store.pool.blob_pool import blob_key
from registry_server.store.records import Origin, TagRecord
from tests.registry_server.store.images import FOLDER_ONLY, image, index, layer, put_image, record, tag_image
from tests.support.stored_files import file_of, forget, objects_folder

if TYPE_CHECKING:
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

LAYER = b"layer"
ABSENT = Digest.of(b"absent")


def test_a_manifest_is_found_by_tag_and_by_digest(nginx: Repository) -> None:
    descriptor = tag_image(nginx, "1", LAYER)
    for reference in (Tag("1"), descriptor.digest):
        found = nginx.find_manifest(reference)
        assert found.descriptor.digest == descriptor.digest
        assert found.descriptor.media_type == media_types.OCI_MANIFEST
        assert found.descriptor.size == len(file_of(nginx, reference).read_bytes())
        assert nginx.read_manifest(reference) == (found.descriptor, image(LAYER).body)


def test_a_manifest_is_found_by_each_algorithm_it_was_put_under(nginx: Repository) -> None:
    body = image().body
    long = Digest.of(body, "sha512")
    assert nginx.put_manifest(image(), long).digest == long
    assert nginx.read_manifest(long)[1] == body
    with pytest.raises(ManifestUnknown):
        nginx.find_manifest(Digest.of(body))


@FOLDER_ONLY
def test_a_blob_is_a_file_that_cannot_be_written(nginx: Repository) -> None:
    nginx.put_blob(layer(LAYER), LAYER)
    found = nginx.find_blob(layer(LAYER).digest)
    assert (found.size, found.read(100)) == (len(LAYER), LAYER)
    assert file_of(nginx, found.digest).stat().st_mode & 0o222 == 0


def test_a_manifest_counts_as_a_blob_too(nginx: Repository) -> None:
    descriptor = put_image(nginx, LAYER)
    assert nginx.has_blob(descriptor.digest)
    assert file_of(nginx, descriptor.digest).read_bytes() == image(LAYER).body


def test_a_blob_is_no_manifest(nginx: Repository) -> None:
    put_image(nginx, LAYER)
    with pytest.raises(ManifestUnknown):
        nginx.find_manifest(layer(LAYER).digest)


def test_in_an_unknown_repository_everything_says_that_the_repository_is_unknown(nginx: Repository) -> None:
    assert not nginx.exists
    for reference in (Tag("1"), ABSENT):
        with pytest.raises(RepositoryUnknown, match="library/nginx"):
            nginx.find_manifest(reference)
        with pytest.raises(RepositoryUnknown):
            nginx.read_manifest(reference)
    with pytest.raises(RepositoryUnknown):
        nginx.find_blob(ABSENT)
    with pytest.raises(RepositoryUnknown):
        nginx.tags()
    assert not nginx.has_blob(ABSENT)
    assert nginx.tag(Tag("1")) is None
    assert nginx.tag_records() == {}
    assert nginx.referrers(ABSENT) == []
    assert nginx.polls() == ()


def test_in_a_known_repository_the_content_is_unknown(nginx: Repository) -> None:
    put_image(nginx, LAYER)
    assert nginx.exists
    with pytest.raises(ManifestUnknown, match=r"library/nginx:1"):
        nginx.find_manifest(Tag("1"))
    with pytest.raises(ManifestUnknown, match=f"library/nginx@{ABSENT}"):
        nginx.find_manifest(ABSENT)
    with pytest.raises(BlobUnknown, match=ABSENT):
        nginx.find_blob(ABSENT)
    assert nginx.tags() == []


# Invariant 3: knowing a digest is not a right to it.


def test_a_digest_of_another_repository_cannot_be_read(nginx: Repository, other: Repository) -> None:
    descriptor = tag_image(nginx, "1", LAYER)
    put_image(other, b"other")
    for digest in (layer(LAYER).digest, descriptor.digest):
        assert not other.has_blob(digest)
        with pytest.raises(BlobUnknown):
            other.find_blob(digest)
        with pytest.raises(ManifestUnknown):
            other.find_manifest(digest)
        with pytest.raises(ManifestUnknown):
            other.read_manifest(digest)


def test_a_repository_inside_another_is_another(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", LAYER)
    for name in ("library", "library/nginx/inner"):
        inner = store.repository(RepositoryName(name))
        assert not inner.exists
        assert not inner.has_blob(layer(LAYER).digest)


def test_a_failed_adoption_leaves_no_right_behind(nginx: Repository, other: Repository) -> None:
    assert not other.adopt_blob(layer(LAYER).digest)
    nginx.put_blob(layer(LAYER), LAYER)
    assert not other.has_blob(layer(LAYER).digest)
    assert other.adopt_blob(layer(LAYER).digest)
    assert other.has_blob(layer(LAYER).digest)


def test_a_tag_whose_manifest_was_deleted_is_unknown(nginx: Repository) -> None:
    descriptor = tag_image(nginx, "1", LAYER)
    nginx._objects.remove(nginx._manifest_key(descriptor.digest))
    # In a bucket, a repository without a manifest is none.
    with pytest.raises((ManifestUnknown, RepositoryUnknown)):
        nginx.find_manifest(Tag("1"))


# Invariant 2: no byte is served under a digest that it does not have.


def test_a_damaged_manifest_is_not_read_and_mended_by_the_next_put(store: Store, nginx: Repository) -> None:
    descriptor = tag_image(nginx, "1", LAYER)
    body = image(LAYER).body
    nginx._objects.put(blob_key(descriptor.digest), body.replace(b"layer", b"LAYER"))
    forget(store)
    with pytest.raises(StoreDamaged, match=descriptor.digest):
        nginx.read_manifest(Tag("1"))
    nginx.put_manifest(image(LAYER))
    assert nginx.read_manifest(Tag("1"))[1] == image(LAYER).body


# Tags.


def test_tags_come_in_ascii_order_page_by_page(nginx: Repository) -> None:
    descriptor = put_image(nginx)
    names = ["10", "9", "A", "a", "a-b", "a.b", "aa", "_x", "a_b"]
    for name in names:
        nginx.put_tag(Tag(name), record(descriptor))
    assert nginx.tags() == sorted(names)
    assert nginx.tags(limit=3) == ["10", "9", "A"]
    assert nginx.tags(last="A", limit=2) == ["_x", "a"]
    assert nginx.tags(last="a-") == ["a-b", "a.b", "a_b", "aa"]  # `last` need not exist
    assert nginx.tags(last="zz") == []
    assert nginx.tags(limit=0) == []


def test_tags_that_differ_in_case_are_two(nginx: Repository) -> None:
    first, second = tag_image(nginx, "Latest", b"1"), tag_image(nginx, "latest", b"2")
    assert nginx.find_manifest(Tag("Latest")).descriptor.digest == first.digest
    assert nginx.find_manifest(Tag("latest")).descriptor.digest == second.digest


def test_a_tag_remembers_where_it_came_from(nginx: Repository) -> None:
    descriptor = put_image(nginx)
    first = record(descriptor, ABSENT)
    second = TagRecord(descriptor.digest, descriptor.media_type, descriptor.size, 2.0)
    nginx.put_tag(Tag("1"), first)
    nginx.put_tag(Tag("2"), second)
    assert nginx.tag(Tag("1")) == first
    assert first.origin == Origin("registry1:5000", "library/nginx", descriptor.digest)
    assert nginx.tag_records() == {"1": first, "2": second}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty-after-a-power-cut"),
        pytest.param(b"\0" * 100, id="zeros"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="nothing-in-it"),
        pytest.param(b'{"digest": "../../x", "mediaType": "", "size": 1, "pushed": 1}', id="path-as-digest"),
        pytest.param(b"[" * 100_000, id="depth-bomb"),
    ],
)
def test_a_tag_file_that_is_not_ours_counts_as_absent_and_its_neighbours_stay(
    nginx: Repository, store: Store, content: bytes
) -> None:
    tag_image(nginx, "good", LAYER)
    (objects_folder(store) / "repos/library/nginx/_r/tags/bad").write_bytes(content)
    assert nginx.tag(Tag("bad")) is None
    assert list(nginx.tag_records()) == ["good"]
    with pytest.raises(ManifestUnknown):
        nginx.find_manifest(Tag("bad"))
    tag_image(nginx, "bad", LAYER)
    assert list(nginx.tag_records()) == ["bad", "good"]


def test_what_is_no_tag_is_not_listed(nginx: Repository, store: Store) -> None:
    tag_image(nginx, "1", LAYER)
    folder = objects_folder(store) / "repos/library/nginx/_r/tags"
    (folder / ".nfs0001").touch()
    (folder / "a+b").touch()
    assert nginx.tags() == ["1"]
    assert list(nginx.tag_records()) == ["1"]


# Referrers.


def test_referrers_are_listed_for_a_subject_that_is_not_here_yet(nginx: Repository) -> None:
    subject = image(LAYER).descriptor()
    signature = image(subject=subject.to_json(), artifactType="x/signature", annotations={"by": "a\ud800"})
    descriptor = nginx.put_manifest(signature)
    (found,) = nginx.referrers(subject.digest)
    assert found == descriptor
    assert found.artifact_type == "x/signature"
    assert found.annotations == {"by": "a\ud800"}
    assert nginx.referrers(descriptor.digest) == []


def test_a_referrer_goes_with_its_manifest_and_stays_in_its_repository(
    nginx: Repository, other: Repository
) -> None:
    subject = image(LAYER).descriptor()
    descriptor = nginx.put_manifest(index(subject=subject.to_json()))
    assert other.referrers(subject.digest) == []
    nginx._objects.remove(nginx._manifest_key(descriptor.digest))
    assert nginx.referrers(subject.digest) == []


# What an image still needs.


def test_missing_names_blobs_and_children_that_this_repository_does_not_hold(
    nginx: Repository, other: Repository
) -> None:
    first, second = image(b"1"), image(b"2")
    put_image(nginx, b"1")
    put_image(other, b"2")
    assert nginx.missing(first) == []
    assert [each.digest for each in nginx.missing(second)] == [Digest.of(b"2")]
    assert [each.digest for each in nginx.missing(index(first, second))] == [second.descriptor().digest]


@FOLDER_ONLY  # in a bucket, a marker answers for its blob until scrub has looked
def test_a_marker_without_content_is_missing(nginx: Repository) -> None:
    put_image(nginx, LAYER)
    file_of(nginx, layer(LAYER).digest).unlink()
    assert [each.digest for each in nginx.missing(image(LAYER))] == [layer(LAYER).digest]
    with pytest.raises(BlobUnknown):
        nginx.find_blob(layer(LAYER).digest)


def test_a_child_manifest_that_is_here_as_a_blob_only_is_missing(nginx: Repository) -> None:
    child = image(LAYER)
    nginx.put_blob(layer(child.body), child.body)
    assert [each.digest for each in nginx.missing(index(child))] == [child.descriptor().digest]


# The store as a whole.


def test_repositories_are_listed_in_ascii_order_of_their_full_names(store: Store) -> None:
    names = ["a/z", "a", "a-b/c", "a.b", "b", "a/b/c"]
    for name in names:
        put_image(store.repository(RepositoryName(name)))
    store.repository(RepositoryName("only/blobs")).put_blob(layer(LAYER), LAYER)
    store.repository(RepositoryName("only/failed")).adopt_blob(ABSENT)
    (objects_folder(store) / "repos" / "UPPER" / "_r" / "manifests").mkdir(parents=True)
    (objects_folder(store) / "repos" / "UPPER" / "_r" / "manifests" / "x").touch()
    assert store.repositories() == sorted(names)
