"""What the reports of the shards of an entry say together: `status`, and what `rerun` runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flows.direct_run import run_direct
from flows.entries import part_name
from flows.orchestration.sync import SyncRequest, rerun_requests
from flows.reporting.entry_status import EntryState
from flows.reporting.last_runs import last_runs, outdated_parts
from flows.reporting.mirror_status import mirror_status
from profiles.loader import load_profile
from profiles.values.shard import Shard
from registry_server.store.store import Store
from tests.support_misbehaving import Misbehaving
from tests.tasks.things import entry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Report = dict[str, Any]

NAMES = [f"apps/app-{number}" for number in range(12)]
OF_ONE, OF_TWO = ([name for name in NAMES if Shard(number, 2).owns(name)] for number in (1, 2))


def report(
    shard: str = "",
    *failed: str,
    state: str = "",
    only: Sequence[str] = (),
    problems: Sequence[str] = (),
    copied: Sequence[str] = (),
    day: int = 1,
) -> Report:
    """Of a run over ten images of the registry entry `up`, some of which failed."""
    images = [(name, "failed") for name in failed] + [(name, "copied") for name in copied]
    return {
        "registry": "up",
        "shard": shard,
        "runId": f"run of {shard}",
        "started": f"2026-11-{day:02}T10:00:00Z",
        "ended": f"2026-11-{day:02}T11:00:00Z",
        "seconds": 3600.0,
        "state": state or ("failed" if failed or problems else "complete"),
        "message": "10 of 10 images",
        "only": list(only),
        "totals": {
            "images": 10, "inPlace": 10 - len(failed), "failed": len(failed), "leftOut": 0, "notReached": 0,
        },
        "problems": list(problems),
        "images": [
            {"image": f"{name}:1", "upstream": f"{name}:1", "outcome": outcome} for name, outcome in images
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reports", "complete", "left", "message"),
    [
        pytest.param([report("1/2"), report("2/2")], True, (), "20 of 20 images, in 2 runs", id="all shards"),
        pytest.param(
            [report("1/2")],
            False,
            (),
            "10 of 10 images, in 1 run, shard 2/2 never ran",
            id="a shard that never ran",
        ),
        pytest.param([report()], True, (), "10 of 10 images", id="a run of the whole entry"),
        pytest.param(
            [report("1/2", OF_ONE[0]), report("2/2")],
            False,
            (f"{OF_ONE[0]}:1",),
            "19 of 20 images, 1 failed, in 2 runs",
            id="an image of a shard failed",
        ),
        pytest.param(
            [report("1/2", OF_ONE[0]), report("2/2"), report("1/2")],
            True,
            (),
            "20 of 20 images, in 2 runs",
            id="the newest of each shard counts",
        ),
        pytest.param(
            [report("", OF_ONE[0]), report("1/2")],
            True,
            (),
            "19 of 20 images, 1 failed, in 2 runs",
            id="what a whole run left, and the shard has since",
        ),
        pytest.param(
            [report("", OF_ONE[0]), report("2/2")],
            False,
            (f"{OF_ONE[0]}:1",),
            "19 of 20 images, 1 failed, in 2 runs",
            id="another shard says nothing of it",
        ),
        pytest.param(
            [report("1/2", OF_ONE[0]), report("2/2"), report("2/2", only=[f"{OF_ONE[0]}:1"])],
            False,
            (f"{OF_ONE[0]}:1",),
            "19 of 20 images, 1 failed, in 2 runs",
            id="a shard that was asked for another's image did nothing",
        ),
        pytest.param(
            [report("1/2", OF_ONE[0]), report("2/2"), report("1/2", only=[f"{OF_ONE[0]}:1"])],
            True,
            (),
            "19 of 20 images, 1 failed, in 2 runs",
            id="its own shard found it in place",
        ),
        pytest.param(
            [report("1/2", problems=["no catalog"]), report("2/2", problems=["no catalog"])],
            False,
            (),
            "20 of 20 images, no catalog, in 2 runs",
            id="a problem of all is said once",
        ),
        pytest.param(
            [report("1/2", state="stopped"), report("2/2")],
            False,
            (),
            "20 of 20 images, in 2 runs",
            id="stopped",
        ),
    ],
)  # fmt: skip
def test_an_entry_is_complete_when_the_newest_report_of_each_shard_is(
    reports: list[Report], *, complete: bool, left: tuple[str, ...], message: str
) -> None:
    last = last_runs(reports, {"up": 2})["up"]
    assert (last.is_complete, last.left, last.report["message"]) == (complete, left, message)


@pytest.mark.parametrize(
    ("before", "shards"),
    [
        pytest.param([report("1/2"), report("2/2")], 3, id="more shards"),
        pytest.param([report("1/3"), report("2/3"), report("3/3")], 2, id="fewer"),
        pytest.param([report("1/2"), report("2/2")], 1, id="none any more"),
    ],
)
def test_reports_of_another_number_of_shards_do_not_count(before: list[Report], shards: int) -> None:
    assert last_runs(before, {"up": shards}) == {}
    last = last_runs([*before, report()], {"up": shards})["up"]
    assert last.is_complete, "a run of the whole entry counts, whatever the number is"


def test_reports_of_older_versions_are_of_whole_runs() -> None:
    old = report()
    del old["shard"]
    assert last_runs([old], {})["up"].is_complete


def write(folder: Path, shards: int, more: str = "") -> Path:
    profile = folder / "profile.yaml"
    profile.write_text(
        "storage: {rootDirectory: store}\n"
        f"sync: {{registries: [{{name: up, urls: ['http://127.0.0.1:1'], shards: {shards}, {more}"
        "content: [{prefix: '**'}]}]}\n"
    )
    return profile


def save(folder: Path, *reports: Report) -> None:
    store = Store.open(folder / "store")
    for each in reports:
        shard = Shard.parse(each["shard"]) if each["shard"] else None
        store.reports.save(part_name("up", shard), each)


def test_status_adds_the_shards_up(tmp_path: Path) -> None:
    loaded = load_profile(write(tmp_path, 2))
    save(tmp_path, report("1/2", day=2), report("2/2", day=1))
    status = mirror_status(loaded, None, now=0.0)
    assert status.is_complete
    document = json.loads(json.dumps(status.to_json()))
    assert [each["shard"] for each in document["runs"]] == ["1/2", "2/2"]
    assert document["entries"][0]["lastRun"] == "2026-11-01T11:00:00Z", "since then all was looked at"
    assert mirror_status(loaded, "up", now=0.0).is_complete


def test_a_shard_that_stood_still_makes_its_entry_overdue(tmp_path: Path) -> None:
    loaded = load_profile(write(tmp_path, 2, "pollInterval: 1d, "))
    save(tmp_path, report("1/2", day=3), report("2/2", day=1))
    at = 1793700000.0  # 2026-11-03, about 10:00
    [status] = mirror_status(loaded, None, now=at).entries
    assert status.state is EntryState.OVERDUE


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param([report("1/2"), report("2/2")], [], id="nothing failed"),
        pytest.param(
            [report("1/2", OF_ONE[0]), report("2/2", OF_TWO[0])],
            [(f"{OF_ONE[0]}:1", f"{OF_TWO[0]}:1")],
            id="the images of all shards",
        ),
        pytest.param([report("1/2")], [()], id="everything, where a shard never ran"),
        pytest.param([report("1/2", problems=["no catalog"]), report("2/2")], [()], id="everything"),
    ],
)
def test_rerun_runs_what_all_shards_left(
    tmp_path: Path, reports: list[Report], expected: list[tuple[str, ...]]
) -> None:
    profile = load_profile(write(tmp_path, 2)).profile
    save(tmp_path, *reports)
    assert [request.only for request in rerun_requests(profile, None)] == expected


@pytest.mark.parametrize(
    ("shards", "shard"),
    [
        pytest.param(2, Shard(1, 2), id="the shard whose run it was"),
        pytest.param(3, None, id="that shard is no more: the whole entry"),
    ],
)
def test_rerun_of_a_run_is_for_its_shard(tmp_path: Path, shards: int, shard: Shard | None) -> None:
    profile = load_profile(write(tmp_path, shards)).profile
    save(tmp_path, report("1/2", problems=["no catalog"]))
    [request] = rerun_requests(profile, "run of 1/2")
    assert (request.shard, request.only) == (shard, ())


def test_a_sync_starts_the_shards_that_have_something_to_do() -> None:
    sharded = entry({"prefix": "**"}, shards=2)
    whole = SyncRequest(sharded).by_shard()
    assert [each.part for each in whole] == ["registry1:1-of-2", "registry1:2-of-2"]
    both = SyncRequest(sharded, (f"{OF_ONE[0]}:1", OF_TWO[0], OF_TWO[1])).by_shard()
    assert [(str(each.shard), each.only) for each in both] == [
        ("1/2", (f"{OF_ONE[0]}:1",)),
        ("2/2", (OF_TWO[0], OF_TWO[1])),
    ]
    [one] = SyncRequest(sharded, (OF_TWO[0],)).by_shard()
    assert str(one.shard) == "2/2"
    undivided = SyncRequest(entry({"prefix": "**"}))
    assert undivided.by_shard() == [undivided]


@pytest.mark.parametrize(
    ("names", "shards", "outdated"),
    [
        pytest.param(["up:1-of-2", "up:2-of-2", "up:1-of-3"], 2, ["up:1-of-3"], id="another number"),
        pytest.param(["up:1-of-2", "up:1-of-3"], 2, [], id="a new shard has not run yet"),
        pytest.param(["up", "up:1-of-3", "up:2-of-3"], 1, ["up:1-of-3", "up:2-of-3"], id="undivided again"),
        pytest.param(["up", "up:1-of-2", "up:2-of-2"], 2, [], id="runs over all of the entry stay"),
        pytest.param(["up:1-of-2", "up:2-of-2", "up2:1-of-3"], 2, [], id="another entry"),
    ],
)
def test_reports_of_an_earlier_number_of_shards_are_outdated(
    names: list[str], shards: int, outdated: list[str]
) -> None:
    assert outdated_parts(names, "up", shards) == outdated


def test_the_run_that_completes_the_new_shards_removes_the_reports_of_the_old(tmp_path: Path) -> None:
    with Misbehaving() as upstream:
        upstream.add_image("apps/web", "1")
        registry = {"name": "up", "urls": [f"http://{upstream.host}"], "content": [{"prefix": "**"}]}
        profile, reports = tmp_path / "profile.json", Store.open(tmp_path / "store").reports
        for shards in (2, 3):
            sync = {"registries": [registry | {"shards": shards}]}
            document = {"storage": {"rootDirectory": "store"}, "sync": sync}
            profile.write_text(json.dumps(document))
            for number in range(1, shards + 1):
                assert "up:1-of-2" in reports.names() or shards == 2, "until each new one has run"
                assert run_direct(profile, "up", shard=Shard(number, shards))[0] == "COMPLETED"
    assert reports.names() == ["up:1-of-3", "up:2-of-3", "up:3-of-3"]
