"""Destinations by the commands: sync in several processes, what check, plan and status print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.command_line import mirrorflow
from tests.support.push_target import PushTarget, push_target
from tests.support.registry_answers import HARBOR_QUOTA
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.destinations.syncing import LAYER, assert_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAGS = ("1", "2", "3")


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        for tag in TAGS:
            found.add_image("team/app", tag, layers=(LAYER, tag.encode()))
        yield found


@pytest.fixture
def target() -> Iterator[PushTarget]:
    with push_target() as found:
        yield found


def write(folder: Path, upstream: Misbehaving, target: PushTarget, **sync: Any) -> Path:
    entry = {
        "name": "upstream",
        "urls": [f"http://{upstream.host}"],
        "pollInterval": "6h",
        "to": ["other"],
        "content": [{"prefix": "team/app"}],
    }
    document = {
        "storage": {"rootDirectory": "store"},
        "destinations": [{"name": "other", "url": target.url, "prefix": "m"}],
        "sync": {"registries": [entry], **sync},
    }
    path = folder / "profile.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("processes", [1, 2])
def test_sync_fills_another_registry_and_status_says_so(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, processes: int
) -> None:
    profile = write(tmp_path, upstream, target, processes=processes)
    assert "to other" in mirrorflow("plan", profile).stdout
    synced = mirrorflow("sync", profile)
    assert synced.returncode == 0, synced.stderr
    for tag in TAGS:
        assert_whole(target, "m/team/app", tag)
    status = mirrorflow("status", profile, "--json")
    assert status.returncode == 0, status.stdout
    rows = json.loads(status.stdout)["tags"]
    assert [(row["destination"], row["reference"]) for row in rows] == [("other", tag) for tag in TAGS]
    table = mirrorflow("status", profile, "--all").stdout
    assert "destination" in table


def test_an_image_that_failed_is_run_again_by_rerun(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    profile = write(tmp_path, upstream, target)
    target.quota = HARBOR_QUOTA
    synced = mirrorflow("sync", profile)
    assert synced.returncode == 1
    assert "upper limit of 10.0 MiB" in synced.stdout + synced.stderr
    assert mirrorflow("status", profile).returncode == 2
    target.quota = None
    assert mirrorflow("rerun", profile).returncode == 0
    assert_whole(target, "m/team/app", "3")


def test_check_says_where_images_go(tmp_path: Path, upstream: Misbehaving, target: PushTarget) -> None:
    told = mirrorflow("check", write(tmp_path, upstream, target)).stdout
    assert f"from http://{upstream.host}, to other" in told
    assert f"elsewhere other: {target.url}, app/one as m/app/one" in told


@pytest.mark.parametrize("command", [["gc"], ["scrub"], ["stats"]], ids=" ".join)
def test_care_of_the_store_leaves_what_is_remembered_of_destinations(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, command: list[str]
) -> None:
    profile = write(tmp_path, upstream, target)
    assert mirrorflow("sync", profile).returncode == 0
    done = mirrorflow("store", *command, profile)
    assert done.returncode == 0, done.stderr
    target.counts()
    assert "nothing new" in mirrorflow("sync", profile).stdout
    assert target.counts() == {"HEAD manifests": 3}
