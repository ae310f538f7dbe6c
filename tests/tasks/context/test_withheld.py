"""What the store remembers of digests that it does not let in, and of the time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flows.reporting.tag_status import tag_statuses
from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag
from registry_server.store.mirror_state.withheld_digests import (
    Withheld,
    all_withheld,
    find_withheld,
    forget_withheld,
    latest_time,
    put_withheld,
)
from registry_server.store.store import Store
from tasks.context.cooldown import HELD_BACK
from tasks.on_demand.limits.timed_cache import TimedCache
from tests.on_demand.mirrors import document, mirroring
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.context.test_cooldown import APP, DAY, START, WEEK, digest_of, poll
from tests.tasks.runs import store_of, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def remove(upstream: Misbehaving, tag: str) -> None:
    app = upstream.repositories["app"]
    app.tags.remove(tag)
    del app.manifests[tag]


def test_what_is_withheld_survives_the_process(tmp_path: Path) -> None:
    one, two = Digest.of(b"one"), Digest.of(b"two")
    found = Withheld("registry1", "app", one, 5.0, 9.0, "no signature")
    put_withheld(Store.open(tmp_path), APP, Tag("v1"), found)
    put_withheld(Store.open(tmp_path), APP, two, replace(found, digest=two))
    store = Store.open(tmp_path)
    assert all_withheld(store, APP) == {Tag("v1"): found, two: replace(found, digest=two)}
    forget_withheld(store, APP, Tag("v1"))
    assert find_withheld(store, APP, Tag("v1")) is None
    assert store.repositories() == [], "that something was seen is no repository"


def test_status_names_what_waits_on_demand_until_it_is_not_there_any_more(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    young = digest_of(upstream, b"young")
    with mirroring(tmp_path, document(f"http://{upstream.host}", content=[WEEK])) as mirrored:
        mirrored.client.get("/v2/app/manifests/v1")
        [row] = tag_statuses(mirrored.store, now=time.time())
        assert (row.registry, row.repository, row.reference) == ("registry1", "app", "v1")
        assert (row.upstream_digest, row.stored_digest, row.problem) == (young, "", "")
        assert row.held_back.startswith(HELD_BACK)
        assert row.last_check is not None
        assert time.time() - row.last_check < 60
        assert list(tag_statuses(mirrored.store, now=time.time() + 8 * DAY)) == [], "its time has come"
        assert list(tag_statuses(mirrored.store, entries=("other",))) == [], "the profile has no such entry"
        remove(upstream, "v1")
        mirrored.service._absent = TimedCache(
            10_000
        )  # as after the seconds for which the refusal is remembered
        mirrored.client.get("/v2/app/manifests/v1")
        assert list(tag_statuses(mirrored.store, now=time.time())) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"tags": {"regex": "w.*"}}, id="no rule takes it any more"),
        pytest.param({}, id="upstream has it no more"),
    ],
)
def test_status_forgets_what_a_poll_does_not_want(
    upstream: Misbehaving, tmp_path: Path, change: dict[str, Any]
) -> None:
    digest_of(upstream, b"young")
    poll(tmp_path, upstream, 0)
    assert [row.reference for row in tag_statuses(store_of(tmp_path), now=START)] == ["v1"]
    digest_of(upstream, b"other", "w1")
    if not change:
        remove(upstream, "v1")
    poll(tmp_path, upstream, 1, WEEK | change)
    assert [row.reference for row in tag_statuses(store_of(tmp_path), now=START + DAY)] == ["w1"]


@pytest.mark.parametrize(
    ("days", "admitted"),
    [
        pytest.param([0, -30, 0], False, id="the clock was slow when the digest was first seen"),
        pytest.param([0, -30, 6.9], False, id="and its time has not come"),
        pytest.param([0, -30, 7], True, id="it waits as long as any other"),
        pytest.param([0, 30, 10], False, id="what a fast clock saw waits from that time on"),
    ],
)
def test_a_slow_clock_dates_no_digest_back(
    upstream: Misbehaving, tmp_path: Path, days: list[float], *, admitted: bool
) -> None:
    digest_of(upstream, b"other", "w1")
    poll(tmp_path, upstream, days[0])
    digest_of(upstream, b"new")
    for day in days[1:]:
        poll(tmp_path, upstream, day)
    assert ("app:v1" in visible(store_of(tmp_path))) is admitted


def test_the_store_knows_the_latest_time_and_a_rehearsal_does_not_tell_it(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    assert latest_time(store, 1000.0) == 1000.0
    assert latest_time(store, 5000.0, write=False) == 5000.0
    assert latest_time(Store.open(tmp_path), 10.0) == 1000.0
