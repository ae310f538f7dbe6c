"""Many tags change at once while the process holds a lease, in a folder and in a bucket.

Over a bucket it remembers then for some seconds what tags were: nothing is published by that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.reference import ImageName, RepositoryName, Tag
from registry_server.store import records
from registry_server.store.errors import TagMoved
from registry_server.store.mirror_state import tag_switch
from registry_server.store.mirror_state.tag_switch import Change, TagChange, all_changes, switch_tags
from registry_server.store.repository_reader import RepositoryReader
from tests.registry_server.store.images import check, put_image, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

APP = RepositoryName("prod/app")
TAG = Tag("v1")


@pytest.fixture
def app(store: Store) -> Repository:
    return store.repository(APP)


def _change(tags: Mapping[Tag, TagChange]) -> Change:
    named = {f"{APP}:{tag}": each for tag, each in tags.items()}
    return Change("20260102T030405-1", "a test", "tester@here", "2026-01-02T03:04:05+00:00", named)


def _remembered(app: Repository) -> None:
    """Asked often enough that a bucket's folder of tags is listed, and remembered."""
    for _ in range(5):
        app.tag(TAG)


def test_a_tag_that_another_process_has_moved_meanwhile_is_not_overwritten(
    store: Store, app: Repository
) -> None:
    old, new, theirs = (record(put_image(app, content)) for content in (b"old", b"new", b"theirs"))
    app.put_tag(TAG, old)
    with store.lease():
        _remembered(app)
        _by_another_process(store, app, theirs)
        with pytest.raises(TagMoved):
            switch_tags(store, _change({TAG: TagChange(old, new)}))
    assert app.tag(TAG) == theirs
    assert all_changes(store) == []


def _by_another_process(store: Store, app: Repository, theirs: TagRecord) -> None:
    """As it writes: past the memory of this one."""
    key = f"{app.folder}/tags/{TAG}"
    store.roots[0].objects.put(key, records.encode(records.tag_to_json(theirs)))


def test_what_changed_is_known_at_once(store: Store, app: Repository) -> None:
    old, new = (record(put_image(app, content)) for content in (b"old", b"new"))
    app.put_tag(TAG, old)
    app.put_tag(Tag("goes"), old)
    with store.lease():
        _remembered(app)
        going = TagChange(old, None)
        switch_tags(store, _change({TAG: TagChange(old, new), Tag("goes"): going}))
        assert app.tag(TAG) == new
        assert app.tag(Tag("goes")) is None
    assert check(store) == 1


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_who_lost_his_turn_without_notice_overwrites_no_push(
    store: Store, app: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends a session, another host pushes, and the one that was cut off has not noticed."""
    old, new, theirs = (record(put_image(app, content)) for content in (b"old", b"new", b"theirs"))
    app.put_tag(TAG, old)
    look = tag_switch._require_whole

    def push(*arguments: Any) -> None:
        look(*arguments)
        _by_another_process(store, app, theirs)

    monkeypatch.setattr(tag_switch, "_require_whole", push)
    with pytest.raises(TagMoved, match="prod/app:v1 was moved by somebody else"):
        switch_tags(store, _change({TAG: TagChange(old, new)}))
    assert app.tag(TAG) == theirs
    assert all_changes(store) == []


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_who_lost_his_turn_without_notice_notes_nothing_over_a_push(
    store: Store, app: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, theirs = (record(put_image(app, content)) for content in (b"old", b"theirs"))
    app.put_tag(TAG, old)
    settled = RepositoryReader._settled

    def push(self: RepositoryReader, held: TagRecord | None) -> TagRecord | None:
        _by_another_process(store, app, theirs)
        return settled(self, held)

    monkeypatch.setattr(RepositoryReader, "_settled", push)
    assert not app.replace_record(TAG, replace(old, verdict="refused"))
    monkeypatch.undo()
    assert tag_switch._raw(store, ImageName(APP, TAG)) == theirs
