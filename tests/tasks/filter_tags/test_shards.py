"""The share of a shard: which repositories, which items of `only`, and what it removes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.values.shard import Shard
from registry_server.oci.reference import RepositoryName
from tasks.list_catalog import choose_repositories, repositories_of_shard
from tasks.run.only import home_of
from tests.support_misbehaving import answers
from tests.tasks.runs import rows, store_of, sync, visible
from tests.tasks.things import entry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

    Rule = dict[str, Any]

SHARDS = tuple(Shard(number, 3) for number in (1, 2, 3))
NAMES = [f"apps/app-{number}" for number in range(12)]
INTO_HUB = {"prefix": "**", "destination": "/hub"}
TOGETHER = [{"prefix": "a/**", "stripPrefix": True}, {"prefix": "b/**", "stripPrefix": True}]


@given(
    names=st.lists(st.sampled_from([f"{base}/{name}" for base in "abc" for name in "xyz"]), unique=True),
    of=st.integers(1, 7),
)
def test_every_repository_is_in_exactly_one_share(names: list[str], of: int) -> None:
    chosen = choose_repositories(entry({"prefix": "c/**"}, *TOGETHER), names)
    shares = [repositories_of_shard(Shard(number, of), chosen) for number in range(1, of + 1)]
    assert sorted(each.name for share in shares for each in share) == sorted(names)


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        pytest.param(TOGETHER, ["a/x", "b/x"], id="one local name for two"),
        pytest.param(
            [
                {"prefix": "a/**", "stripPrefix": True},
                {"prefix": "b/**", "stripPrefix": True},
                {"prefix": "b/**", "stripPrefix": True, "destination": "/more"},
                {"prefix": "c/**", "stripPrefix": True, "destination": "/more"},
            ],
            ["a/x", "b/x", "c/x"],
            id="two that have none in common, and one in common with a third",
        ),
    ],
)
@pytest.mark.parametrize("of", [2, 3, 5, 1000])
def test_repositories_that_share_a_local_name_stay_together(
    rules: list[Rule], names: list[str], of: int
) -> None:
    chosen = choose_repositories(entry(*rules), names)
    shares = [repositories_of_shard(Shard(number, of), chosen) for number in range(1, of + 1)]
    assert [len(share) for share in shares if share] == [len(names)]


@pytest.mark.parametrize(
    ("rules", "item", "home"),
    [
        pytest.param([{"prefix": "**"}], "library/nginx:1.25", "library/nginx", id="its only name"),
        pytest.param([INTO_HUB], "hub/library/nginx", "library/nginx", id="by its name here"),
        pytest.param([INTO_HUB], "library/nginx", "library/nginx", id="by its name there"),
        pytest.param([{"prefix": "apps/*"}], "other:1", "other", id="no rule takes it"),
    ],
)
def test_an_item_belongs_to_one_repository(rules: list[Rule], item: str, home: str) -> None:
    assert home_of(entry(*rules), item) == home


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param([{"prefix": "**"}], id="from the catalog"),
        pytest.param([{"prefix": name} for name in NAMES], id="named by rules, without a catalog"),
    ],
)
def test_shards_bring_what_one_run_brings(tmp_path: Path, upstream: Misbehaving, rules: list[Rule]) -> None:
    fill(upstream)
    reports = [sync(tmp_path, upstream, *rules, shard=shard) for shard in SHARDS]
    assert set(visible(store_of(tmp_path))) == {f"{name}:1" for name in NAMES}
    assert sum(report.total for report in reports) == len(NAMES)
    assert all(report.complete and report.total for report in reports)
    assert [report.to_json()["shard"] for report in reports] == ["1/3", "2/3", "3/3"]
    again = sync(tmp_path, upstream, *rules)
    assert (again.unchanged, again.bytes_moved) == (len(NAMES), 0), "one run finds nothing new"
    assert again.to_json()["shard"] == ""


def test_another_number_of_shards_fetches_nothing_again(tmp_path: Path, upstream: Misbehaving) -> None:
    fill(upstream)
    for shard in SHARDS:
        sync(tmp_path, upstream, shard=shard)
    upstream.seen.clear()
    reports = [sync(tmp_path, upstream, shard=Shard(number, 5)) for number in range(1, 6)]
    assert sum(report.unchanged for report in reports) == len(NAMES)
    assert upstream.requests("GET", "/manifests/") == []
    assert upstream.requests("GET", "/blobs/") == []


def test_an_image_that_is_asked_for_is_left_to_its_shard(tmp_path: Path, upstream: Misbehaving) -> None:
    fill(upstream)
    [owner] = [shard for shard in SHARDS if shard.owns(NAMES[0])]
    for shard in SHARDS:
        report = sync(tmp_path, upstream, only=[f"{NAMES[0]}:1"], shard=shard)
        assert report.complete, report.problems
        assert list(rows(report)) == ([f"{NAMES[0]}:1"] if shard == owner else [])
        assert ("is left to the shard" in " ".join(report.notes)) == (shard != owner)


def test_an_image_that_is_nowhere_is_a_problem_of_one_shard(tmp_path: Path, upstream: Misbehaving) -> None:
    fill(upstream)
    reports = [sync(tmp_path, upstream, only=["apps/none:1"], shard=shard) for shard in SHARDS]
    assert sum(bool(report.problems) for report in reports) == 1


def test_a_shard_prunes_its_own_repositories_only(tmp_path: Path, upstream: Misbehaving) -> None:
    fill(upstream, tags=("1", "2"))
    rule = {"prefix": "**", "prune": {"after": "0.001s", "maxShare": "100%"}}
    for shard in SHARDS:
        sync(tmp_path, upstream, rule, shard=shard)
    for name in NAMES:
        repository = upstream.repositories[name]
        repository.tags.remove("2")
        del repository.manifests["2"]
    for shard in SHARDS:  # notes that they are gone
        sync(tmp_path, upstream, {"prefix": "**"}, shard=shard)
    age(tmp_path)
    sync(tmp_path, upstream, rule, shard=SHARDS[0])
    gone = {name for name in NAMES if f"{name}:2" not in visible(store_of(tmp_path))}
    assert gone == {name for name in NAMES if SHARDS[0].owns(name)}


def test_poll_records_are_of_all_shards(tmp_path: Path, upstream: Misbehaving) -> None:
    """Each writes those of its repositories; a failure there is no other shard's."""
    fill(upstream)
    upstream.on(f"/v2/{NAMES[0]}/tags/list", answers(500))
    reports = [sync(tmp_path, upstream, shard=shard) for shard in SHARDS]
    assert [report.complete for report in reports] == [not shard.owns(NAMES[0]) for shard in SHARDS]
    store = store_of(tmp_path)
    polls = {name: store.repository(RepositoryName(name)).poll("registry1") for name in NAMES}
    assert all(polls.values())
    assert {name for name, poll in polls.items() if poll and poll.problems} == {NAMES[0]}


def fill(upstream: Misbehaving, tags: tuple[str, ...] = ("1",)) -> None:
    for name in NAMES:
        for tag in tags:
            upstream.add_image(name, tag, (b"base", f"{name}:{tag}".encode()))


def age(folder: Path) -> None:
    """What is gone was seen gone an hour earlier."""
    from dataclasses import replace

    store = store_of(folder)
    for name in store.repositories():
        repository = store.repository(name)
        poll = repository.poll("registry1")
        assert poll is not None
        gone = {tag: since - 3600 for tag, since in poll.gone.items()}
        repository.put_poll(replace(poll, gone=gone), keep={"registry1"})
