"""Many tags change at once: readers see all or none, and a killed writer leaves all or none."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.errors import ManifestUnknown
from registry_server.oci.reference import ImageName, RepositoryName, Tag
from registry_server.store.errors import ClosureIncomplete, StillNeeded, TagMoved
from registry_server.store.gc.retention import (
    GcOptions,
    KeepTags,
    RepositoryRetention,
    Retention,
    RetentionLimits,
)
from registry_server.store.mirror_state import tag_switch
from registry_server.store.mirror_state.tag_switch import (
    Change,
    TagChange,
    all_changes,
    finish_interrupted,
    switch_tags,
)
from registry_server.store.store import Store
from tests.registry_server.store.gc.collecting import age, gc
from tests.registry_server.store.images import check, image, index, layer, put_image, record, tag_image
from tests.registry_server.store.mirror_state.switching import (
    REPOSITORIES,
    TAGS,
    VERSIONS,
    change_to,
    versions,
)

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository

APP = RepositoryName("prod/app")
PROGRAM = [sys.executable, "-m", "tests.registry_server.store.mirror_state.switching"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", durability="none")


@pytest.fixture
def app(store: Store) -> Repository:
    return store.repository(APP)


def change(name: str = "20260102T030405-1", **tags: tuple[TagRecord | None, TagRecord | None]) -> Change:
    found = {f"{APP}:{tag}": TagChange(*pair) for tag, pair in tags.items()}
    return Change(name, "a test", "tester@here", "2026-01-02T03:04:05+00:00", found)


def plain(store: Store) -> bool:
    """Whether no tag's file says two things."""
    return not any(b'"next"' in path.read_bytes() for path in store.root.glob("repos/**/tags/*"))


def test_tags_move_appear_and_go(store: Store, app: Repository) -> None:
    tag_image(app, "moves", b"old")
    tag_image(app, "goes", b"gone")
    new = record(put_image(app, b"new"))
    switch_tags(
        store,
        change(moves=(app.tag(Tag("moves")), new), goes=(app.tag(Tag("goes")), None), comes=(None, new)),
    )
    assert app.tag_records() == {Tag("moves"): new, Tag("comes"): new}
    assert plain(store)
    (done,) = all_changes(store)
    assert (done.by, done.done, set(done.tags)) == (
        "tester@here",
        True,
        {f"{APP}:{x}" for x in ("moves", "goes", "comes")},
    )


def test_what_a_tag_named_before_is_young_again(store: Store, app: Repository) -> None:
    """A client may be pulling it, and a collection may be under way that does not know of the change."""
    old = tag_image(app, "v1", b"old")
    age(store, days=30)
    began = time.time()
    switch_tags(store, change(v1=(app.tag(Tag("v1")), record(put_image(app, b"new")))))
    marker = store.root / f"repos/prod/app/_r/manifests/sha256-{old.digest.hex}"
    assert marker.stat().st_mtime >= began - 2


def test_a_reader_never_sees_a_tag_older_than_one_that_it_saw(store: Store) -> None:
    """Two processes: one changes 20 tags of 4 repositories again and again, the other reads them."""
    switch_tags(store, change_to(store, 0))
    reader = subprocess.Popen([*PROGRAM, "read", store.root], stdout=subprocess.PIPE, text=True)
    try:
        subprocess.run([*PROGRAM, "change", store.root, str(VERSIONS - 40)], check=True, timeout=300)
        said, _ = reader.communicate(timeout=60)
    finally:
        reader.kill()
    assert reader.returncode == 0, said
    assert int(said) > 5
    assert check(store) == len(REPOSITORIES) * len(TAGS)


def test_a_writer_that_is_killed_leaves_all_or_none(store: Store) -> None:
    switch_tags(store, change_to(store, 0))
    first, interrupted = 1, 0
    for attempt in range(12):
        with subprocess.Popen([*PROGRAM, "change", store.root, str(first)]) as writer:
            while not _is_busy(store, first) and writer.poll() is None:
                time.sleep(0.001)
            time.sleep(random.Random(attempt).random() / 20)  # noqa: S311 - some moment
            writer.kill()
        found = set(versions(Store.open(store.root, durability="none")))
        assert len(found) == 1, "readers see all or none, before anybody tidies up"
        interrupted += not plain(store)
        finish_interrupted(store)
        assert plain(store)
        assert set(versions(store)) == found
        first = found.pop() + 1
    assert interrupted, "at least one was killed in the middle"
    assert check(store) == len(REPOSITORIES) * len(TAGS)


def _is_busy(store: Store, first: int) -> bool:
    return (store.root / f"changes/2026-{first:06}.json").exists()


def test_a_server_with_its_caches_sees_the_change_at_once(store: Store, app: Repository) -> None:
    """The file of a tag is cached while it says both; which of them holds is looked at each time."""
    tag_image(app, "v1", b"old")
    before, new = app.tag(Tag("v1")), record(put_image(app, b"new"))
    found = change(v1=(before, new), v2=(None, new))
    for name, each in found.tags.items():
        tag_switch._prepare(store, ImageName.parse(name), each, found.id)
    time.sleep(1.1)  # until a cache takes files for settled
    for _ in range(2):
        assert (app.tag(Tag("v1")), app.tag(Tag("v2"))) == (before, None)
        assert app.tag_records() == {Tag("v1"): before}
    store.roots[0].objects.put(f"changes/{found.id}.done", b"")
    assert (app.tag(Tag("v1")), app.tag(Tag("v2"))) == (new, new)
    assert app.find_manifest(Tag("v2")).descriptor.digest == new.digest


def test_what_is_not_whole_is_not_shown_and_nothing_else_changes(store: Store, app: Repository) -> None:
    tag_image(app, "v1", b"old")
    before, good = app.tag(Tag("v1")), record(put_image(app, b"new"))
    app.put_blob(layer(b"{}"), b"{}")
    lacking = record(app.put_manifest(image(b"never came")))
    with pytest.raises(ClosureIncomplete, match=r"prod/app:v2: the tag cannot be set"):
        switch_tags(store, change(v1=(before, good), v2=(None, lacking)))
    unknown = record(image(b"unknown").descriptor())
    with pytest.raises(ManifestUnknown):
        switch_tags(store, change(v1=(before, good), v2=(None, unknown)))
    assert app.tag_records() == {Tag("v1"): before}
    assert plain(store)
    assert all_changes(store) == []


def test_a_tag_that_somebody_moved_meanwhile_stops_the_change(store: Store, app: Repository) -> None:
    tag_image(app, "v1", b"old")
    before = app.tag(Tag("v1"))
    tag_image(app, "v1", b"somebody's")
    now, new = app.tag(Tag("v1")), record(put_image(app, b"new"))
    with pytest.raises(TagMoved, match="prod/app:v1 was moved by somebody else"):
        switch_tags(store, change(v0=(None, new), v1=(before, new)))
    assert app.tag_records() == {Tag("v1"): now}


def test_a_push_between_preparing_and_tidying_wins(store: Store, app: Repository) -> None:
    """Whoever writes a tag writes it plainly."""
    tag_image(app, "v1", b"old")
    before, new = app.tag(Tag("v1")), record(put_image(app, b"new"))
    found = change(v1=(before, new))
    tag_switch._prepare(store, ImageName(APP, Tag("v1")), found.tags[f"{APP}:v1"], found.id)
    pushed = tag_image(app, "v1", b"pushed")
    tag_switch._settle_all(store, found, done=True)
    held = app.tag(Tag("v1"))
    assert held is not None
    assert held.digest == pushed.digest


def test_a_change_of_another_name_cannot_lead_elsewhere(store: Store, app: Repository) -> None:
    """A planted file: its change names a path."""
    tag_image(app, "v1", b"old")
    path = store.root / "repos/prod/app/_r/tags/v1"
    document = json.loads(path.read_bytes())
    (store.root.parent / "planted.done").touch()
    document["next"] = {"change": "../../planted", "record": None}
    path.write_text(json.dumps(document))
    assert app.tag(Tag("v1")) is not None


def test_a_tag_that_is_about_to_change_stands_on_both(store: Store, app: Repository) -> None:
    """So the collector, which reads the files by itself, keeps both."""
    tag_image(app, "v1", b"old")
    before, new = app.tag(Tag("v1")), record(put_image(app, b"new"))
    found = change(v1=(before, new))
    tag_switch._prepare(store, ImageName(APP, Tag("v1")), found.tags[f"{APP}:v1"], found.id)
    held = tag_switch._raw(store, ImageName(APP, Tag("v1")))
    assert held is not None
    assert before is not None
    assert set(held.roots) == {before.digest, new.digest}


def prepared(store: Store, found: Change) -> None:
    """The change stands before its last step: whatever others do now comes in the middle of it."""
    tag_switch.note_change(store, found)
    for name, each in found.tags.items():
        tag_switch._prepare(store, ImageName.parse(name), each, found.id)


def made(store: Store, found: Change) -> None:
    tag_switch.mark_done(store, found)
    tag_switch._settle_all(store, found, done=True)


def test_a_note_about_a_tag_in_the_middle_of_a_change_leaves_it_in_the_change(
    store: Store, app: Repository
) -> None:
    """As a changed policy makes it: the verdict on what the tag names now."""
    tag_image(app, "v1", b"old")
    before, new = app.tag(Tag("v1")), record(put_image(app, b"new"))
    assert before is not None
    found = change(v1=(before, new))
    prepared(store, found)
    noted = replace(before, verdict="refused")
    assert app.replace_record(Tag("v1"), noted)
    assert app.tag(Tag("v1")) == noted
    made(store, found)
    assert app.tag(Tag("v1")) == new
    assert plain(store)


def test_what_a_tag_is_about_to_name_cannot_be_deleted(store: Store, app: Repository) -> None:
    """Else the tag would be visible without it (invariant 1)."""
    new = record(put_image(app, b"new"))
    found = change(v1=(None, new))
    prepared(store, found)
    with pytest.raises(StillNeeded):
        app.delete_manifest(new.digest)
    with pytest.raises(StillNeeded):
        app.delete_blob(layer(b"new").digest)
    app.withdraw({}, [new.digest])
    made(store, found)
    assert check(store) == 1


def test_what_a_tag_leaves_out_now_and_is_about_to_name_cannot_be_deleted(
    store: Store, app: Repository
) -> None:
    child = put_image(app, b"new")
    both = app.put_manifest(index(image(b"new")))
    before, new = record(both, child.digest), record(both)
    app.put_tag(Tag("v1"), before)
    found = change(v1=(before, new))
    prepared(store, found)
    with pytest.raises(StillNeeded):
        app.delete_manifest(child.digest)
    made(store, found)
    assert check(store) == 1


def test_retention_leaves_a_tag_alone_that_is_about_to_change(store: Store, app: Repository) -> None:
    tag_image(app, "v1", b"old")
    before, new = app.tag(Tag("v1")), record(put_image(app, b"new"))
    found = change(v1=(before, new))
    prepared(store, found)
    age(store)
    never = KeepTags(lambda _: True, RetentionLimits(pushed_within=0.0))
    gc(store, GcOptions(settle=0.0, retention=Retention((RepositoryRetention(keep_tags=(never,)),))))
    made(store, found)
    assert app.tag(Tag("v1")) == new


def test_an_old_change_that_was_killed_at_its_end_is_not_forgotten(store: Store, app: Repository) -> None:
    """Changes of other registries may follow it for years, and they finish nothing here."""
    tag_image(app, "v1", b"old")
    before, new = app.tag(Tag("v1")), record(put_image(app, b"new"))
    found = change("20200102T030405-1", v1=(before, new))
    found = replace(found, when="2020-01-02T03:04:05+00:00")
    prepared(store, found)
    tag_switch.mark_done(store, found)
    for number in range(tag_switch.RECORDS_KEPT):
        other = replace(found, id=f"20210102T030405-{number:03}", tags={}, destination="other")
        tag_switch.note_change(store, other)
        tag_switch.mark_done(store, other)
    assert tag_switch.drop_old(store, time.time()) == 0
    assert app.tag(Tag("v1")) == new
    finish_interrupted(store)
    assert plain(store)
    assert tag_switch.drop_old(store, time.time()) == 1
    assert app.tag(Tag("v1")) == new
