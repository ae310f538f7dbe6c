"""Named sets of tags, and that the collector keeps what they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreDamaged
from registry_server.store.gc.collector import collect
from registry_server.store.gc.retention import (
    GcOptions,
    KeepTags,
    RepositoryRetention,
    Retention,
    RetentionLimits,
)
from registry_server.store.mirror_state.snapshots import (
    SnapshotError,
    all_snapshots,
    delete_snapshot,
    read_snapshot,
    take_snapshot,
)
from registry_server.store.mirror_state.tag_switch import Change, TagChange, switch_tags
from registry_server.store.store import Store
from tests.registry_server.store.gc.collecting import OPTIONS, age, gc, in_pool, untag
from tests.registry_server.store.images import image, layer, put_image, record, tag_image

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.gc.gc_report import Removal
    from registry_server.store.repository import Repository

APP = RepositoryName("dev/app")
RELEASES = KeepTags(lambda tag: tag.startswith("v"), RetentionLimits())
NO_NIGHTLY = GcOptions(
    settle=0.0, retention=Retention((RepositoryRetention(keep_tags=(RELEASES,)),), delay=0.0)
)
WHEN = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", durability="none")


@pytest.fixture
def app(store: Store) -> Repository:
    return store.repository(APP)


def collected(store: Store) -> None:
    """Everything is old, and what nobody needs is gone from the disk."""
    for _ in range(3):
        age(store)
        gc(store)


def test_a_snapshot_says_what_tags_named_when_it_was_taken(store: Store, app: Repository) -> None:
    old = tag_image(app, "v1", b"old")
    taken = take_snapshot(store, "before", taken=WHEN, by="me@here")
    tag_image(app, "v1", b"new")
    found = read_snapshot(store, "before")
    assert found == taken
    assert found.tags[APP][Tag("v1")].digest == old.digest
    assert (found.count, found.by, found.taken) == (1, "me@here", WHEN)


def test_the_collector_keeps_what_a_snapshot_names_until_it_is_deleted(store: Store, app: Repository) -> None:
    old = tag_image(app, "v1", b"old layer")
    for content in (b"{}", b"report"):
        app.put_blob(layer(content), content)
    app.put_manifest(image(b"report", subject=old.to_json()))
    take_snapshot(store, "before", taken=WHEN, by="me@here")
    tag_image(app, "v1", b"new layer")
    collected(store)
    assert in_pool(store, b"old layer")
    assert in_pool(store, b"report"), "what refers to it as well"
    delete_snapshot(store, "before")
    collected(store)
    assert not in_pool(store, b"old layer")
    assert in_pool(store, b"new layer")


def test_the_collector_keeps_what_tags_were_before_a_promotion(store: Store, app: Repository) -> None:
    tag_image(app, "v1", b"old layer")
    after = record(put_image(app, b"new layer"))
    tags = {f"{APP}:v1": TagChange(app.tag(Tag("v1")), after)}
    switch_tags(store, Change("20260102T030405-1", "a test", "me@here", WHEN, tags))
    collected(store)
    assert in_pool(store, b"old layer")


def test_what_no_snapshot_names_goes_as_before(store: Store, app: Repository) -> None:
    tag_image(app, "v1", b"kept layer")
    take_snapshot(store, "before", taken=WHEN, by="me@here")
    tag_image(app, "v2", b"other layer")
    untag(app, "v2")
    collected(store)
    assert not in_pool(store, b"other layer")


def test_nothing_is_collected_while_a_snapshot_cannot_be_read(store: Store, app: Repository) -> None:
    """It is unknown what it keeps."""
    tag_image(app, "v1", b"old layer")
    take_snapshot(store, "before", taken=WHEN, by="me@here")
    untag(app, "v1")
    path = store.root / "snapshots/before.json"
    path.write_text("{")
    age(store)
    with pytest.raises(StoreDamaged, match="cannot be read, so it is unknown what it keeps; remove it"):
        collect(store, {store.root: OPTIONS})
    assert in_pool(store, b"old layer")


def test_nothing_is_collected_while_a_change_cannot_be_read(store: Store, app: Repository) -> None:
    """What its tags were before is needed to take it back."""
    tag_image(app, "v1", b"old layer")
    new = record(put_image(app, b"new layer"))
    moved = {f"{APP}:v1": TagChange(app.tag(Tag("v1")), new)}
    switch_tags(store, Change("20260102T030405-1", "a test", "me@here", WHEN, moved))
    path = store.root / "changes/20260102T030405-1.json"
    path.write_text("{")
    age(store)
    with pytest.raises(StoreDamaged, match="cannot be read, so it is unknown what it keeps; remove it"):
        collect(store, {store.root: OPTIONS})
    assert in_pool(store, b"old layer")


def test_only_the_wanted_repositories_are_in_it(store: Store, app: Repository) -> None:
    tag_image(app, "v1", b"one")
    tag_image(store.repository(RepositoryName("other/app")), "v1", b"two")
    found = take_snapshot(store, "dev", taken=WHEN, by="me@here", wanted=lambda name: name.startswith("dev/"))
    assert list(found.tags) == [APP]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a" * 101, "a b"])
def test_a_name_is_no_path(store: Store, app: Repository, name: str) -> None:
    tag_image(app, "v1", b"one")
    with pytest.raises(SnapshotError, match="is not a name of a snapshot"):
        take_snapshot(store, name, taken=WHEN, by="me@here")


def test_mistakes_are_named(store: Store, app: Repository) -> None:
    with pytest.raises(SnapshotError, match="there is nothing to keep"):
        take_snapshot(store, "one", taken=WHEN, by="me@here")
    tag_image(app, "v1", b"one")
    take_snapshot(store, "one", taken=WHEN, by="me@here")
    with pytest.raises(SnapshotError, match="there is a snapshot one already"):
        take_snapshot(store, "one", taken=WHEN, by="me@here")
    with pytest.raises(SnapshotError, match="there is no snapshot two; there is: one"):
        read_snapshot(store, "two")
    assert [each.name for each in all_snapshots(store)] == ["one"]


def test_a_snapshot_that_is_taken_while_retention_removes_tags_is_kept(store: Store, app: Repository) -> None:
    """The collector has read which snapshots there are, and has not come to this repository yet."""
    first = store.repository(RepositoryName("dev/aaa"))
    for repository in (first, app):
        tag_image(repository, "nightly", str(repository.name).encode())
    age(store)

    def told(removal: Removal) -> None:
        if removal.name == f"{first.name}:nightly":
            take_snapshot(store, "before", taken=WHEN, by="me@here", wanted=lambda name: name == APP)

    gc(store, NO_NIGHTLY, told=told)
    collected(store)
    assert in_pool(store, str(APP).encode())


def test_a_snapshot_of_what_the_collector_removes_at_that_moment_is_none(
    store: Store, app: Repository
) -> None:
    tag_image(app, "nightly", b"old layer")
    tag_image(store.repository(RepositoryName("dev/zzz")), "v1", b"another layer")
    age(store)

    def wanted(name: str) -> bool:
        if name == "dev/zzz":  # the tags of the other one have been read by then
            gc(store, NO_NIGHTLY)
        return True

    with pytest.raises(SnapshotError, match="dev/app:nightly was removed while it was taken"):
        take_snapshot(store, "before", taken=WHEN, by="me@here", wanted=wanted)
    assert all_snapshots(store) == []
