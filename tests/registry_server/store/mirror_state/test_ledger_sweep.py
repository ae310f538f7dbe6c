"""What ledgers forget, and what they keep; and the records of old promotions."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag
from registry_server.store.mirror_state.ledger import FOLDER, Ledger, open_ledger
from registry_server.store.mirror_state.ledger_sweep import KEPT_SECONDS, sweep_ledgers
from registry_server.store.mirror_state.tag_switch import (
    RECORDS_KEPT,
    Change,
    all_changes,
    drop_old,
    mark_done,
    note_change,
)
from registry_server.store.store import Store
from tests.registry_server.store.mirror_state.test_ledger import APP, BLOBS, image, record

if TYPE_CHECKING:
    from pathlib import Path

OTHER = Digest.of(b"of an image that no tag names")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path, durability="none")


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """A tag with its image, and one more blob."""
    found = open_ledger(store.root, "other", "none")
    repository, manifest = found.repository(APP), image()
    repository.put_manifest(manifest)
    for digest in (*(blob.digest for blob in BLOBS), OTHER):
        repository.confirm(digest)
        found.note_place(digest, "there/app")
    repository.put_tag(Tag("1"), record(manifest))
    return found


def age(store: Store, days: float) -> None:
    """As if all files of all ledgers had been written so long ago."""
    when = time.time() - days * 86400
    for folder, _, files in os.walk(store.root / FOLDER):
        for name in (*files, "."):
            os.utime(os.path.join(folder, name), (when, when))  # noqa: PTH118 - texts of os.walk


def test_what_a_tag_needs_stays_and_other_marks_go_when_they_are_old(store: Store, ledger: Ledger) -> None:
    assert sweep_ledgers(store, {"other"}, time.time(), {}) == 0
    age(store, 100)
    assert sweep_ledgers(store, {"other"}, time.time(), {}) == 1
    repository = open_ledger(store.root, "other").repository(APP)
    assert [repository.is_confirmed(digest) for digest in (BLOBS[0].digest, BLOBS[1].digest, OTHER)] == [
        True,
        True,
        False,
    ]
    assert ledger.place_of(BLOBS[0].digest) == "there/app"
    assert ledger.place_of(OTHER) == ""
    assert repository.tags() == ["1"]


@pytest.mark.parametrize("pinned", [True, False])
def test_an_image_without_a_tag_stays_where_a_rule_lists_its_digest(
    store: Store, ledger: Ledger, *, pinned: bool
) -> None:
    digest = image().descriptor().digest
    ledger.repository(APP).delete_tag(Tag("1"))
    age(store, 100)
    sweep_ledgers(store, {"other"}, time.time(), {APP: {digest}} if pinned else {})
    repository = open_ledger(store.root, "other").repository(APP)
    assert repository.is_confirmed(digest) is pinned
    assert repository.is_confirmed(BLOBS[0].digest) is pinned


@pytest.mark.parametrize(
    ("used", "days", "stays"),
    [
        pytest.param({"other"}, 100, True, id="the profile has it"),
        pytest.param(set(), 80, True, id="no run has opened it for 80 days"),
        pytest.param(set(), 100, False, id="no run has opened it for 100 days"),
    ],
)
@pytest.mark.usefixtures("ledger")
def test_a_ledger_that_no_profile_has_goes_after_a_while(
    store: Store, used: set[str], days: float, *, stays: bool
) -> None:
    age(store, days)
    sweep_ledgers(store, used, time.time(), {})
    assert (store.root / FOLDER / "other").exists() is stays
    assert len(os.listdir(store.root / FOLDER)) == stays  # noqa: PTH208 - nothing beside it


@pytest.mark.usefixtures("ledger")
def test_a_run_makes_the_ledger_that_it_opens_young(store: Store) -> None:
    age(store, 100)
    open_ledger(store.root, "other")
    sweep_ledgers(store, set(), time.time() + KEPT_SECONDS / 2, {})
    assert (store.root / FOLDER / "other").exists()


@pytest.mark.parametrize(
    ("count", "days", "done", "left"),
    [
        pytest.param(RECORDS_KEPT + 3, 400, True, RECORDS_KEPT, id="old ones beyond the last hundred go"),
        pytest.param(RECORDS_KEPT + 3, 300, True, RECORDS_KEPT + 3, id="those of the last year stay"),
        pytest.param(RECORDS_KEPT, 400, True, RECORDS_KEPT, id="the last hundred stay"),
        pytest.param(RECORDS_KEPT + 3, 400, False, RECORDS_KEPT + 3, id="what is to be undone stays"),
    ],
)
def test_records_of_promotions(store: Store, count: int, days: float, *, done: bool, left: int) -> None:
    began = datetime.now(UTC) - timedelta(days=days)
    for number in range(count):
        when = began + timedelta(seconds=number)
        change = Change(
            f"{when:%Y%m%dT%H%M%S}-{number:06}", "promote", "me", when.isoformat(), destination="x"
        )
        note_change(store, change)
        if done:
            mark_done(store, change)
    assert drop_old(store, time.time()) == count - left
    assert len(all_changes(store)) == left
    assert all(each.done is done for each in all_changes(store))


def test_what_is_in_the_place_of_ledgers_ends_no_collection(store: Store) -> None:
    (store.root / FOLDER).write_text("a file")
    assert sweep_ledgers(store, {"other"}, time.time(), {}) == 0
