"""A tag on a converted image stands on the original too: nothing takes that away from under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.errors import ManifestUnknown
from registry_server.oci.forms import Form
from registry_server.oci.reference import Tag
from registry_server.store.errors import ClosureIncomplete, StillNeeded
from registry_server.store.gc.retention import GcOptions, KeepTags, RepositoryRetention, Retention
from registry_server.store.maintenance.scrub import find_missing
from registry_server.store.records import Origin, TagRecord
from tests.registry_server.store.gc.collecting import A, B, C, age, gc
from tests.registry_server.store.images import image, index, layer, put_image, record
from tests.support.stored_files import objects_folder

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

TAG = Tag("1")


def converted(descriptor: Descriptor, original: Digest, *sparse: Digest) -> TagRecord:
    origin = Origin("registry1", "library/nginx", original, Form(oci=True))
    return TagRecord(descriptor.digest, descriptor.media_type, descriptor.size, 1.5, origin, sparse)


def tag_converted(nginx: Repository) -> tuple[Descriptor, Descriptor]:
    """What the tag names, and what that was made of; here they do not even share a layer."""
    new, original = put_image(nginx, A), put_image(nginx, B)
    nginx.put_tag(TAG, converted(new, original.digest))
    return new, original


def test_the_original_stays_as_long_as_the_tag_and_goes_with_it(store: Store, nginx: Repository) -> None:
    new, original = tag_converted(nginx)
    age(store)
    gc(store)
    assert nginx.has_blob(original.digest)
    assert nginx.has_blob(layer(B).digest)
    nginx.delete_tag(TAG)
    age(store)
    assert gc(store).manifests == 2
    assert not nginx.has_blob(original.digest)
    assert not nginx.has_blob(new.digest)


def test_its_age_counts_from_the_moment_that_the_tag_moved(store: Store, nginx: Repository) -> None:
    """Somebody may be in the middle of pulling it by its digest."""
    _, original = tag_converted(nginx)
    age(store)
    nginx.put_tag(TAG, record(put_image(nginx, C)))
    gc(store)
    assert nginx.has_blob(original.digest)


def test_retention_keeps_the_signature_tag_of_the_original(store: Store, nginx: Repository) -> None:
    _, original = tag_converted(nginx)
    signature = Tag(f"sha256-{original.digest.hex}.sig")
    nginx.put_tag(signature, record(put_image(nginx, C)))
    age(store)
    policy = RepositoryRetention(keep_tags=(KeepTags(lambda tag: tag == TAG),))
    gc(store, GcOptions(delay=3600.0, settle=0.0, retention=Retention((policy,))))
    assert nginx.tags() == [TAG, signature]


def test_neither_it_nor_its_parts_are_deleted_from_under_the_tag(nginx: Repository) -> None:
    _, original = tag_converted(nginx)
    with pytest.raises(StillNeeded, match="library/nginx:1 needs"):
        nginx.delete_manifest(original.digest)
    with pytest.raises(StillNeeded):
        nginx.delete_blob(layer(B).digest)


def test_a_tag_is_not_set_without_it(nginx: Repository) -> None:
    new = put_image(nginx, A)
    with pytest.raises(ManifestUnknown, match="to be tagged"):
        nginx.put_tag(TAG, converted(new, image(B).descriptor().digest))
    original = nginx.put_manifest(image(B))
    with pytest.raises(ClosureIncomplete):
        nginx.put_tag(TAG, converted(new, original.digest))
    assert nginx.tags() == []


def test_what_a_platform_choice_left_out_of_it_is_no_lack(store: Store, nginx: Repository) -> None:
    left_out = image(C)
    put_image(nginx, A)
    original = nginx.put_manifest(index(image(A), left_out))
    new = nginx.put_manifest(index(image(A)))
    nginx.put_tag(TAG, converted(new, original.digest, left_out.descriptor().digest))
    assert list(find_missing(store)) == []
    age(store)
    gc(store)
    assert nginx.has_blob(original.digest)


def test_what_is_lost_of_it_is_found_missing(store: Store, nginx: Repository) -> None:
    tag_converted(nginx)
    hex_digest = layer(B).digest.hex
    (objects_folder(store) / "blobs/sha256" / hex_digest[:2] / hex_digest).unlink()
    assert [str(each) for each in find_missing(store)] == [f"library/nginx:1: {layer(B).digest} is missing"]


def test_the_record_is_read_back_with_its_form(nginx: Repository) -> None:
    new, original = tag_converted(nginx)
    found = nginx.tag(TAG)
    assert found is not None
    assert found.roots == (new.digest, original.digest)
    assert found.origin is not None
    assert found.origin.form == Form(oci=True)


def test_a_tag_of_another_digest_without_a_form_stands_on_itself_alone(nginx: Repository) -> None:
    """An origin with another digest is no promise that the original is here."""
    new = put_image(nginx, A)
    origin = Origin("registry1", "library/nginx", image(B).descriptor().digest)
    nginx.put_tag(TAG, TagRecord(new.digest, new.media_type, new.size, 1.5, origin))
    found = nginx.tag(TAG)
    assert found is not None
    assert found.roots == (new.digest,)
