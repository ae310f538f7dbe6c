"""`status`: whether the mirror is what the profile wants, whatever the last run was asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.store.store import Store
from tests.support.command_line import mirrorflow, write_profile
from tests.support_misbehaving import Misbehaving, answers, well_behaved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = f"a-name/that-is/{'long-enough/' * 8}to-be-folded"  # wider than 80 columns
RULE = "{prefix: app}"


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as upstream:
        upstream.add_image("app", "1", (b"layer",))
        yield upstream


def test_without_a_store_status_says_what_to_run(upstream: Misbehaving, tmp_path: Path) -> None:
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE)
    told = mirrorflow("status", profile)
    assert told.returncode == 2
    assert f"there is no store at {tmp_path / 'store'} yet: run `mirrorflow sync {profile}`" in told.stderr
    assert "error" not in told.stderr
    assert "never run" in told.stdout
    assert not (tmp_path / "store").exists()
    document = json.loads(mirrorflow("status", profile, "--json").stdout)
    assert (document["version"], document["complete"]) == (1, False)


def test_an_entry_that_never_ran_is_not_complete(upstream: Misbehaving, tmp_path: Path) -> None:
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE)
    assert mirrorflow("sync", profile).returncode == 0
    assert mirrorflow("status", profile).returncode == 0
    entry = f"{{name: second, urls: ['http://{upstream.host}'], content: [{RULE}]}}"
    profile.write_text(profile.read_text().replace("registries: [", f"registries: [{entry}, "))
    told = mirrorflow("status", profile)
    assert told.returncode == 2
    assert "never run" in told.stdout
    assert states(profile) == {"second": "never run", "up": "complete"}
    assert mirrorflow("status", profile, "--registry", "up").returncode == 0


def test_an_entry_that_left_the_profile_is_not_asked_for(upstream: Misbehaving, tmp_path: Path) -> None:
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE)
    upstream.on("/v2/app/tags/list", answers(500))
    assert mirrorflow("sync", profile).returncode == 1
    profile.write_text(profile.read_text().replace("name: up", "name: renamed"))
    upstream.on("/v2/app/tags/list", well_behaved)
    assert mirrorflow("sync", profile).returncode == 0
    assert mirrorflow("status", profile).returncode == 0
    assert states(profile) == {"renamed": "complete"}


@pytest.mark.parametrize(
    ("when", "age", "state"),
    [
        pytest.param("pollInterval: 1h,", timedelta(minutes=30), "complete", id="within the interval"),
        pytest.param("pollInterval: 1h,", timedelta(minutes=63), "complete", id="a run may begin late"),
        pytest.param("pollInterval: 1h,", timedelta(hours=2), "overdue", id="an interval was missed"),
        pytest.param("schedule: '0 * * * *',", timedelta(hours=3), "overdue", id="a time was missed"),
        pytest.param("schedule: '0 0 * * *',", timedelta(hours=28), "overdue", id="a day was missed"),
        pytest.param("", timedelta(days=900), "complete", id="an entry without a schedule is never late"),
    ],
)
def test_a_success_that_is_too_old_is_overdue(
    upstream: Misbehaving, tmp_path: Path, when: str, age: timedelta, state: str
) -> None:
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE, when)
    assert mirrorflow("sync", profile).returncode == 0
    make_older(tmp_path / "store", age)
    assert states(profile) == {"up": state}
    assert mirrorflow("status", profile).returncode == (0 if state == "complete" else 2)


@pytest.mark.parametrize(
    ("image", "code"),
    [
        pytest.param("app:1", 0, id="a run for one image"),
        pytest.param("typo:1", 1, id="a run for what no rule takes"),
    ],
)
def test_a_run_for_some_images_is_not_the_last_run_of_its_entry(
    upstream: Misbehaving, tmp_path: Path, image: str, code: int
) -> None:
    upstream.add_image("app", "2", (b"other",))
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE)
    assert mirrorflow("sync", profile, "--image", image).returncode == code
    assert states(profile) == {"up": "never run"}
    assert "nothing to run again" in mirrorflow("rerun", profile).stdout
    assert mirrorflow("sync", profile).returncode == 0
    assert mirrorflow("sync", profile, "--image", image).returncode == code
    assert mirrorflow("status", profile).returncode == 0
    assert "nothing to run again" in mirrorflow("rerun", profile).stdout


def test_what_a_run_left_counts_until_a_later_run_brings_it(upstream: Misbehaving, tmp_path: Path) -> None:
    bad = upstream.add_image("app", "bad", (b"bad layer",))
    path = f"/v2/app/blobs/{bad.layers[0].digest}"
    upstream.on(path, answers(500))
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE)
    assert mirrorflow("sync", profile).returncode == 1
    assert mirrorflow("sync", profile, "--image", "app:1").returncode == 0
    assert states(profile) == {"up": "failed"}
    upstream.on(path, well_behaved)
    assert mirrorflow("sync", profile, "--image", "app:bad").returncode == 0
    assert states(profile) == {"up": "complete"}
    assert "in place since, by later runs" in mirrorflow("status", profile).stdout


def test_a_rule_that_is_newer_than_the_last_run_is_not_in_place(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image("other", "1", (b"other",))
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE)
    assert mirrorflow("sync", profile).returncode == 0
    profile.write_text(profile.read_text().replace(RULE, f"{RULE}, {{prefix: other}}"))
    told = mirrorflow("status", profile)
    assert told.returncode == 2
    assert "other" in told.stdout
    assert "no run has looked at it yet" in told.stdout
    assert mirrorflow("sync", profile).returncode == 0
    assert mirrorflow("status", profile).returncode == 0


def test_an_entry_that_is_only_on_demand_is_complete_by_what_it_holds(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE, "onDemand: true,")
    Store.open(tmp_path / "store")
    assert mirrorflow("status", profile).returncode == 0
    assert states(profile) == {"up": "on demand"}


def test_in_a_pipe_a_reference_stays_on_one_line(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image(LONG, "1", (b"layer",))
    profile = write_profile(tmp_path, f"http://{upstream.host}", f"{{prefix: '{LONG}'}}")
    assert f"{LONG}:1" in mirrorflow("plan", profile, COLUMNS="40").stdout
    assert f"{LONG}:1" in mirrorflow("sync", profile, COLUMNS="40").stdout
    assert f"{LONG}:1" in mirrorflow("status", profile, COLUMNS="40").stdout


def states(profile: Path) -> dict[str, str]:
    document = json.loads(mirrorflow("status", profile, "--json").stdout)
    return {each["registry"]: each["state"] for each in document["entries"]}


def make_older(root: Path, age: timedelta) -> None:
    """Every report says that its run was so long ago."""
    for path in root.glob("reports/*/*.json"):
        report: dict[str, Any] = json.loads(path.read_text())
        for key in ("started", "ended"):
            report[key] = (datetime.now(UTC) - age).isoformat(timespec="seconds")
        path.write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("objective", "age", "state"),
    [
        pytest.param("", timedelta(days=900), "complete", id="without an objective age is nothing"),
        pytest.param("objective: {maxLag: 24h},", timedelta(hours=23), "complete", id="fresh enough"),
        pytest.param("objective: {maxLag: 24h},", timedelta(hours=25), "late", id="too long ago"),
        pytest.param("objective: {maxLag: 90},", timedelta(minutes=2), "late", id="in seconds"),
    ],
)
def test_an_entry_that_misses_its_objective_is_late(
    upstream: Misbehaving, tmp_path: Path, objective: str, age: timedelta, state: str
) -> None:
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE, objective)
    assert mirrorflow("sync", profile).returncode == 0
    record = tmp_path / "store" / "polls" / "app" / "_r.json"
    poll = json.loads(record.read_text())
    record.write_text(json.dumps(poll | {"checked": poll["checked"] - age.total_seconds()}))
    told = mirrorflow("status", profile)
    assert states(profile) == {"up": state}
    assert told.returncode == (2 if state == "late" else 0)
    assert ("late: an image was last known to be current" in told.stdout) == (state == "late")


def test_what_was_promoted_is_of_no_entry_and_makes_none_late(upstream: Misbehaving, tmp_path: Path) -> None:
    """No poll looks at it again, so its entry would miss the objective for ever."""
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE, "objective: {maxLag: 1h},")
    assert mirrorflow("sync", profile).returncode == 0
    assert mirrorflow("promote", profile, "app", "prod").returncode == 0
    (record,) = (tmp_path / "store" / "repos" / "prod" / "_r" / "tags").iterdir()
    tag = json.loads(record.read_text())
    record.unlink()
    record.write_text(json.dumps(tag | {"pushed": tag["pushed"] - 7200}))
    assert states(profile) == {"up": "complete"}
    said = json.loads(mirrorflow("status", profile, "--json").stdout)
    assert {(row["repository"], row["registry"]) for row in said["tags"]} == {("app", "up"), ("prod", "")}
    of_entry = json.loads(mirrorflow("status", profile, "--json", "--registry", "up").stdout)
    assert {row["repository"] for row in of_entry["tags"]} == {"app"}


def test_an_image_that_keeps_failing_makes_its_entry_late_by_its_last_success(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    profile = write_profile(tmp_path, f"http://{upstream.host}", RULE, "objective: {maxLag: 1h},")
    assert mirrorflow("sync", profile).returncode == 0
    assert states(profile) == {"up": "complete"}
    upstream.on("/v2/app/tags/list", answers(500))
    assert mirrorflow("sync", profile).returncode == 1
    assert states(profile) == {"up": "failed"}  # a failure says more than that it is late
