"""Retention: which tags and untagged manifests a collection gives up, and what counts as a pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag
from registry_server.store.errors import StoreError
from registry_server.store.gc.retention import (
    GcOptions,
    KeepTags,
    RepositoryRetention,
    Retention,
    RetentionLimits,
)
from tests.registry_server.store.gc.collecting import A, B, C, age, gc, in_pool
from tests.registry_server.store.images import (
    check,
    image,
    index,
    layer,
    put_image,
    record,
    tag_image,
)

if TYPE_CHECKING:
    from registry_server.store.gc.gc_report import Removal
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

PULLS = "repos/library/nginx/_r/pulls"


def keep(pattern: str, **limits: float) -> KeepTags:
    return KeepTags(lambda tag: pattern in tag, RetentionLimits(**limits))  # type: ignore[arg-type]  # by name


PULLED_LATELY = RepositoryRetention(
    keep_tags=(keep("", pulled_within=86400.0),), keep_untagged=RetentionLimits(pulled_within=86400.0)
)


def test_tags_that_no_rule_keeps_go_with_their_images(store: Store, nginx: Repository) -> None:
    for tag, content in (("v1", A), ("v2", B), ("nightly", C)):
        tag_image(nginx, tag, content)
    retention = Retention((RepositoryRetention(keep_tags=(keep("v"),)),), delay=0.0)
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
    retention = Retention((RepositoryRetention(keep_tags=(keep("v"),)),), delay=0.0, dry_run=True)
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
    policy = RepositoryRetention(keep_tags=(keep("v"),))
    gc(store, GcOptions(settle=0.0, retention=Retention((policy,), delay=0.0)))
    kept = image(A).descriptor().digest.replace(":", "-") + ".sig"
    assert nginx.tags() == [f"sha256-{'0' * 64}.att", kept, "v1"]
    assert check(store) == 3
    assert not nginx.has_blob(Digest(image(B).descriptor().digest))


def test_a_tag_that_is_named_like_a_list_of_referrers_is_one_by_its_content(
    store: Store, nginx: Repository
) -> None:
    """Lists that a client pushed go with their image. Images are kept or not as any other."""
    kept, old = tag_image(nginx, "v1", A), tag_image(nginx, "old", B)
    for found in (kept, old):
        put_image(nginx, C)
        listed = nginx.put_manifest(index(image(C)))
        nginx.put_tag(Tag(found.digest.replace(":", "-")), record(listed))
    tag_image(nginx, f"sha256-{'0' * 64}", C)
    age(store)
    gc(
        store,
        GcOptions(settle=0.0, retention=Retention((RepositoryRetention(keep_tags=(keep("v"),)),), delay=0.0)),
    )
    assert nginx.tags() == [kept.digest.replace(":", "-"), "v1"]


def test_what_was_pulled_lately_is_kept_by_its_pulls(store: Store, nginx: Repository) -> None:
    for tag, content in (("pulled", A), ("idle", B)):
        tag_image(nginx, tag, content)
    untagged = put_image(nginx, C)
    age(store, days=60)
    nginx.note_pull(Tag("pulled"))
    nginx.note_pull(untagged.digest)
    gc(store, GcOptions(settle=0.0, retention=Retention((PULLED_LATELY,))))
    assert nginx.tags() == ["pulled"]
    assert nginx.has_blob(untagged.digest)
    seen = nginx.pulled(Tag("pulled"))
    nginx.note_pull(Tag("pulled"))  # once an hour is enough
    assert nginx.pulled(Tag("pulled")) == seen
    age(store, days=60)
    gc(store, GcOptions(settle=0.0, retention=Retention((PULLED_LATELY,))))
    assert nginx.tag_records() == {}
    assert nginx._objects.names(PULLS).objects == ()


def test_a_full_store_is_an_error_of_ours(store: Store) -> None:
    (store.root / "locks" / "gc").mkdir()
    with pytest.raises(StoreError):
        gc(store)


def test_a_pull_by_digest_keeps_the_tags_of_that_digest(store: Store, nginx: Repository) -> None:
    """containerd and docker ask for a tag by HEAD, and get what it names by digest."""
    pulled = tag_image(nginx, "pulled", A)
    tag_image(nginx, "same", A)
    tag_image(nginx, "idle", B)
    age(store, days=60)
    nginx.note_pull(pulled.digest)
    gc(store, GcOptions(settle=0.0, retention=Retention((PULLED_LATELY,))))
    assert nginx.tags() == ["pulled", "same"]


def test_pulls_are_forgotten_with_what_was_pulled(store: Store, nginx: Repository) -> None:
    for tag in ("one", "two", "three"):
        tag_image(nginx, tag, A)
        nginx.note_pull(Tag(tag))
    digest = image(A).descriptor().digest
    nginx.note_pull(digest)
    nginx.delete_tag(Tag("one"))
    assert len(nginx._objects.names(PULLS).objects) == 3
    nginx.delete_manifest(digest)
    assert nginx._objects.names(PULLS).objects == ()
