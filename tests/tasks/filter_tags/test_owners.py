"""Two upstream repositories under one name here: the first to come keeps the tag, and both say so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flows.entries import open_store
from flows.reporting.tag_status import tag_statuses
from profiles.loader import parse_profile
from registry_server.oci.reference import RepositoryName, Tag
from tasks.context.mirror_run import open_run
from tests.tasks.runs import asked, mirror, rows, store_of

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.digest import Digest
    from tasks.results.report import Report
    from tests.support_misbehaving import Misbehaving

HERE = "apps/web:1"


def rule(repository: str, **more: Any) -> dict[str, Any]:
    return {"prefix": repository, "destination": "apps/web", "stripPrefix": True, **more}


def entry(upstream: Misbehaving, name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    referrers = {"follow": False}
    return {
        "name": name,
        "urls": [f"http://{upstream.host}"],
        "content": rules,
        "referrers": referrers,
    }


def poll(folder: Path, *entries: dict[str, Any]) -> list[Report]:
    """Of each entry in turn."""
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": entries}}
    profile = parse_profile(json.dumps(document), folder / "profile.json").profile
    reports = []
    for each in profile.sync.registries:
        with open_run(profile, each, open_store(profile)) as run:
            reports.append(mirror(run))
    return reports


def named(folder: Path) -> Digest:
    record = store_of(folder).repository(RepositoryName("apps/web")).tag(Tag("1"))
    assert record is not None
    return record.digest


def test_of_two_repositories_of_one_entry_the_first_keeps_the_tag(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    first = upstream.add_image("team-a/web", "1").manifest.digest
    poll(tmp_path, entry(upstream, "one", rule("team-a/web")))
    upstream.add_image("team-b/web", "1", layers=(b"another",))
    both = entry(upstream, "one", rule("team-a/web"), rule("team-b/web"))
    for _ in range(3):
        asked(upstream)
        [report] = poll(tmp_path, both)
        assert rows(report)[HERE].reason.startswith("is here from one: team-a/web, which the profile puts")
        assert asked(upstream)["GET manifests"] == 0
        assert named(tmp_path) == first
    moved = upstream.add_image("team-a/web", "1", layers=(b"newer",)).manifest.digest
    poll(tmp_path, both)
    assert named(tmp_path) == moved


def test_who_is_not_wanted_any_more_gives_the_tag_up(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image("team-a/web", "1")
    second = upstream.add_image("team-b/web", "1", layers=(b"another",)).manifest.digest
    poll(tmp_path, entry(upstream, "one", rule("team-a/web")))
    without_tag = rule("team-a/web", tags={"regex": "2.*"})
    poll(tmp_path, entry(upstream, "one", without_tag, rule("team-b/web")))
    assert named(tmp_path) == second


def test_new_from_both_at_once_it_is_one_of_the_two_from_then_on(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image("team-a/web", "1")
    upstream.add_image("team-b/web", "1", layers=(b"another",))
    both = entry(upstream, "one", rule("team-a/web"), rule("team-b/web"))
    poll(tmp_path, both)
    first = named(tmp_path)
    poll(tmp_path, both)
    poll(tmp_path, both)
    assert named(tmp_path) == first


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")], ids=["in order", "the other way round"])
def test_two_entries_that_feed_one_repository_have_a_record_each(
    upstream: Misbehaving, tmp_path: Path, order: tuple[str, str]
) -> None:
    upstream.add_image("team-a/web", "1")
    upstream.add_image("team-b/web", "1", layers=(b"another",))
    upstream.add_image("team-b/web", "2", layers=(b"its own",))
    by_name = {
        "one": entry(upstream, "one", rule("team-a/web")),
        "two": entry(upstream, "two", rule("team-b/web")),
    }
    entries = [by_name[name] for name in order]
    poll(tmp_path, *entries)
    before = named(tmp_path)
    poll(tmp_path, *entries)
    assert named(tmp_path) == before
    found = {(row.reference, row.registry): row.problem for row in tag_statuses(store_of(tmp_path))}
    assert found == {("1", order[0]): "", ("2", "two"): ""}
    records = store_of(tmp_path).repository(RepositoryName("apps/web")).polls()
    assert [each.registry for each in records] == [order[1], order[0]]
