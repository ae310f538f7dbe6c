"""`minAge`: a digest waits until this mirror has seen it for long enough, whatever it says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flows.cli.explain import explain_image, explain_min_age
from flows.reporting.tag_status import tag_statuses
from profiles.errors import ProfileInvalid
from profiles.loader import parse_profile
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.mirror_state.withheld_digests import (
    Withheld,
    put_withheld,
)
from tasks.context.cooldown import HELD_BACK
from tasks.results.outcomes import Outcome
from tests.on_demand.mirrors import document, mirroring
from tests.support.stored_files import file_of
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.runs import mirror, opened, rows, store_of, visible
from tests.tasks.test_verifying import OURS, sign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.profile import Profile
    from tasks.results.report import Report

DAY = 86400.0
START = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()
APP = RepositoryName("app")
WEEK: dict[str, Any] = {"prefix": "**", "minAge": "7d"}


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def poll(
    folder: Path, upstream: Misbehaving, day: float, rule: dict[str, Any] | None = None, **sync: Any
) -> Report:
    """A run on that day, counted from the first one."""
    with opened(folder, f"http://{upstream.host}", rule or WEEK) as run:
        profile_sync = run.sync.model_copy(update=_loaded(sync)) if run.sync else None
        return mirror(replace(run, now=lambda: START + day * DAY, sync=profile_sync))


def _loaded(sync: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps({"storage": {"rootDirectory": "s"}, "sync": {"registries": [], **sync}})
    return {"break_glass": parse_profile(text, Path("p.json")).profile.sync.break_glass}


def profile_of(folder: Path, upstream: Misbehaving) -> Profile:
    entry = {"name": "registry1", "urls": [f"http://{upstream.host}"], "content": [WEEK]}
    text = json.dumps({"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}})
    return parse_profile(text, folder / "profile.json").profile


def digest_of(upstream: Misbehaving, content: bytes, tag: str = "v1") -> Digest:
    return upstream.add_image("app", tag, layers=(content,)).manifest.digest


@pytest.mark.parametrize(
    ("days", "admitted"),
    [
        pytest.param([0], False, id="first seen now"),
        pytest.param([0, 6.9], False, id="seen for less"),
        pytest.param([0, 7], True, id="seen for long enough"),
        pytest.param([0, 8], True, id="not looked at in between"),
        pytest.param([10, 3], False, id="the clock went back"),
        pytest.param([10, 3, 16.9], False, id="and came again"),
    ],
)
def test_a_digest_is_admitted_when_it_was_seen_for_long_enough(
    upstream: Misbehaving, tmp_path: Path, days: list[float], *, admitted: bool
) -> None:
    digest_of(upstream, b"one")
    reports = [poll(tmp_path, upstream, day) for day in days]
    row = rows(reports[-1])["app:v1"]
    assert (row.outcome is Outcome.COPIED) is admitted
    assert ("app:v1" in visible(store_of(tmp_path))) is admitted
    if not admitted:
        assert row.outcome is Outcome.SKIPPED
        assert row.reason.startswith(HELD_BACK)
        assert reports[-1].complete, "that it waits is no failure"


def test_the_last_admitted_digest_is_served_while_the_next_one_waits(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    old = digest_of(upstream, b"old")
    poll(tmp_path, upstream, 0)
    poll(tmp_path, upstream, 7)
    new = digest_of(upstream, b"new")
    poll(tmp_path, upstream, 8)
    poll(tmp_path, upstream, 14)
    record = store_of(tmp_path).repository(APP).tag(Tag("v1"))
    assert record is not None
    assert record.digest == old
    [row] = tag_statuses(store_of(tmp_path), now=START + 14 * DAY)
    assert row.in_place
    profile = profile_of(tmp_path, upstream)
    [takes] = explain_image(profile, "app:v1")
    assert "first seen here 7d ago" in takes.words
    [waits] = explain_min_age(profile, "app:v1", store_of(tmp_path), START + 14 * DAY)
    assert f"app:v1: {new} is held back until 2026-12-12T12:00Z" in waits
    assert row.held_back.startswith("held back until 2026-12-12T12:00Z")
    poll(tmp_path, upstream, 15)
    record = store_of(tmp_path).repository(APP).tag(Tag("v1"))
    assert record is not None
    assert record.digest == new


def test_a_digest_that_was_gone_for_a_while_begins_anew(upstream: Misbehaving, tmp_path: Path) -> None:
    """Who shows a digest for a moment and brings it back a week later has gained nothing."""
    old = digest_of(upstream, b"old")
    poll(tmp_path, upstream, 0)
    poll(tmp_path, upstream, 7)
    digest_of(upstream, b"evil")
    poll(tmp_path, upstream, 8)
    digest_of(upstream, b"old")
    poll(tmp_path, upstream, 9)
    digest_of(upstream, b"evil")
    poll(tmp_path, upstream, 15.5)
    record = store_of(tmp_path).repository(APP).tag(Tag("v1"))
    assert record is not None
    assert record.digest == old


def test_companions_wait_with_their_image(upstream: Misbehaving, tmp_path: Path) -> None:
    digest = digest_of(upstream, b"one")
    sign(upstream, digest, OURS)
    report = poll(tmp_path, upstream, 0)
    assert rows(report)[f"app:sha256-{digest.hex}.sig"].reason.startswith("waits for its image")
    assert visible(store_of(tmp_path)) == []
    poll(tmp_path, upstream, 7)
    assert visible(store_of(tmp_path)) == [f"app:sha256-{digest.hex}.sig", "app:v1"]


@pytest.mark.parametrize(
    ("expires", "admitted"),
    [pytest.param("2026-11-27", True, id="its last day"), pytest.param("2026-11-26", False, id="expired")],
)
def test_breaking_the_glass_lets_one_digest_through_and_every_run_says_so(
    upstream: Misbehaving, tmp_path: Path, expires: str, *, admitted: bool
) -> None:
    digest = digest_of(upstream, b"fix")
    digest_of(upstream, b"other", "v2")
    glass = {"digest": digest, "reason": "CVE-2026-1234", "expires": expires}
    reports = [poll(tmp_path, upstream, 0, breakGlass=[glass]) for _ in range(2)]
    assert visible(store_of(tmp_path)) == (["app:v1"] if admitted else [])
    for report in reports:
        assert report.to_json()["breakGlass"] == [glass | {"expired": not admitted}]


@pytest.mark.parametrize(
    ("glass", "what"),
    [
        pytest.param({"digest": "latest"}, "write 'sha256:' and 64 hex digits", id="no digest"),
        pytest.param({"expires": "soon"}, "write it as '2026-12-24'", id="no day"),
        pytest.param({"reason": ""}, "an empty text", id="no reason"),
        pytest.param({"expires": None}, "the key 'expires' is missing", id="for ever"),
    ],
)
def test_an_entry_says_which_digest_why_and_until_when(glass: dict[str, Any], what: str) -> None:
    whole = {"digest": Digest.of(b""), "reason": "x", "expires": "2026-12-24", **glass}
    with pytest.raises(ProfileInvalid, match=what):
        _loaded({"breakGlass": [whole]})


def test_the_longest_of_several_rules_holds(upstream: Misbehaving, tmp_path: Path) -> None:
    digest_of(upstream, b"one")
    url = f"http://{upstream.host}"
    with opened(tmp_path, url, WEEK, {"prefix": "app", "minAge": "1d"}) as run:
        mirror(replace(run, now=lambda: START))
    with opened(tmp_path, url, WEEK, {"prefix": "app", "minAge": "1d"}) as run:
        mirror(replace(run, now=lambda: START + 2 * DAY))
    assert visible(store_of(tmp_path)) == []


def test_on_demand_a_young_digest_is_not_handed_out_by_tag_or_digest(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    digest = digest_of(upstream, b"young")
    entry = document(f"http://{upstream.host}", content=[WEEK])
    with mirroring(tmp_path, entry) as mirrored:
        for reference in ("v1", digest):
            got = mirrored.client.get(f"/v2/app/manifests/{reference}")
            assert got.status_code == 403
            assert "held back until" in got.text
        mirrored.work.wait()
    assert visible(store_of(tmp_path)) == []


def test_on_demand_the_last_admitted_digest_is_served_with_a_warning(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    old = digest_of(upstream, b"old")
    entry = document(f"http://{upstream.host}", content=[WEEK])
    with mirroring(tmp_path, entry) as mirrored:
        put_withheld(mirrored.store, APP, Tag("v1"), Withheld("registry1", APP, old, 0.0))
        assert mirrored.client.get("/v2/app/manifests/v1").headers["Docker-Content-Digest"] == old
        mirrored.work.wait()
        digest_of(upstream, b"new")
        got = mirrored.client.get("/v2/app/manifests/v1")
        assert got.headers["Docker-Content-Digest"] == old
        assert "held back until" in got.headers["Warning"]


@pytest.mark.parametrize("suffix", ["sig", "att", "sbom"])
def test_an_image_under_the_tag_of_a_companion_does_not_come_in_unaged(
    upstream: Misbehaving, tmp_path: Path, suffix: str
) -> None:
    old = digest_of(upstream, b"old")
    for day in (0, 7):
        poll(tmp_path, upstream, day)
    digest_of(upstream, b"evil", f"sha256-{old.hex}.{suffix}")
    row = rows(poll(tmp_path, upstream, 8))[f"app:sha256-{old.hex}.{suffix}"]
    assert row.outcome is Outcome.SKIPPED
    assert visible(store_of(tmp_path)) == ["app:v1"]


def test_on_demand_a_companion_needs_its_image(upstream: Misbehaving, tmp_path: Path) -> None:
    young = digest_of(upstream, b"young")
    evil = digest_of(upstream, b"evil", f"sha256-{young.hex}.sig")
    with mirroring(tmp_path, document(f"http://{upstream.host}", content=[WEEK])) as mirrored:
        for reference in (f"sha256-{young.hex}.sig", evil):
            assert mirrored.client.get(f"/v2/app/manifests/{reference}").status_code == 403


def test_what_was_admitted_is_repaired_at_once(upstream: Misbehaving, tmp_path: Path) -> None:
    digest = digest_of(upstream, b"one")
    for day in (0, 7, 7.5):
        poll(tmp_path, upstream, day)
    repository = store_of(tmp_path).repository(APP)
    record = repository.tag(Tag("v1"))
    assert record is not None
    Path(file_of(repository, digest)).unlink()
    poll(tmp_path, upstream, 8)
    assert store_of(tmp_path).repository(APP).has_blob(digest)


def test_a_new_signature_does_not_wait_for_another_tag_of_its_image(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    digest = digest_of(upstream, b"one")
    for day in (0, 7):
        poll(tmp_path, upstream, day)
    digest_of(upstream, b"one", "latest")
    sign(upstream, digest, OURS)
    poll(tmp_path, upstream, 8)
    assert f"app:sha256-{digest.hex}.sig" in visible(store_of(tmp_path))
    assert "app:latest" not in visible(store_of(tmp_path))


def test_the_last_day_there_is_does_not_expire() -> None:
    whole = {"digest": Digest.of(b""), "reason": "x", "expires": "9999-12-31"}
    [entry] = _loaded({"breakGlass": [whole]})["break_glass"]
    assert not entry.has_expired(START)
