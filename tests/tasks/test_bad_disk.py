"""A store that refuses: every image says so, nothing half is visible, and what was there is there."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from flows.entries import open_store
from profiles.loader import load_profile, parse_profile
from registry_server.store.errors import StoreError
from tasks.results.outcomes import Outcome
from tasks.stored.policy_sweep import sweep
from tests.support.command_line import mirrorflow
from tests.tasks.runs import assert_complete, mirror, opened, store_of, sync, visible
from tests.tasks.test_verifying import policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

OLD, NEW, BIG = "library/old", "library/new", "library/big"
MIB = 1 << 20


@contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    """Permission bits do not stop root, and every disk here is large: mounts do."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", arguments[-1]], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder whose store is on a file system of 2 MiB."""
    (tmp_path / "store").mkdir()
    with mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path / "store")):
        yield tmp_path


def test_an_image_that_is_too_big_for_the_disk_fails_and_its_small_neighbour_is_published(
    upstream: Misbehaving, small: Path
) -> None:
    big = upstream.add_image(BIG, "1", (os.urandom(3 * MIB),)).layers[0]
    upstream.add_image(NEW, "1", (b"small",))
    # The big one's leftovers fill the disk: whoever comes later may fail too, but never be half visible.
    with opened(small, f"http://{upstream.host}", only=[NEW]) as run:
        assert mirror(run).message == "1 of 1 images"
    with opened(small, f"http://{upstream.host}") as run:
        report = mirror(run)
        assert visible(run.store) == [f"{NEW}:1"]
        assert_complete(run.store, f"{NEW}:1")
    [row] = report.images
    assert (row.image, row.outcome) == (f"{BIG}:1", Outcome.FAILED)
    assert row.reason.startswith(
        f"the blob {big.digest.short} (3,145,728 bytes) is not here: the store is full"
    )
    assert "free space or raise the quota" in row.reason


def fill_up(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass


def test_on_a_full_disk_a_run_ends_with_its_report_and_the_next_one_goes_on(
    upstream: Misbehaving, small: Path
) -> None:
    upstream.add_image(OLD, "1", (b"old",))
    sync(small, upstream)
    upstream.add_image(NEW, "1", (b"new",))
    upstream.add_image(NEW, "2", (b"newer",))
    filler = small / "store" / "filler"
    fill_up(filler)
    report = sync(small, upstream)
    assert report.message == "1 of 3 images, 2 failed"
    assert all("the store is full" in row.reason for row in report.images)
    assert visible(store_of(small)) == [f"{OLD}:1"]
    filler.unlink()
    assert sync(small, upstream).message == "3 of 3 images"


def test_on_a_full_disk_what_would_have_to_wait_is_not_let_in_and_what_is_here_stays(
    upstream: Misbehaving, small: Path
) -> None:
    """`minAge` has to remember when it saw a digest first."""
    upstream.add_image(OLD, "1", (b"old",))
    sync(small, upstream)
    upstream.add_image(NEW, "1", (b"new",))
    filler = small / "store" / "filler"
    fill_up(filler)
    waiting = {"prefix": "**", "minAge": "7d"}
    with opened(small, f"http://{upstream.host}", waiting) as run:
        report = mirror(run)
        assert report.message == "1 of 2 images, 1 failed"
        assert visible(run.store) == [f"{OLD}:1"]
    filler.unlink()
    with opened(small, f"http://{upstream.host}", waiting) as run:
        assert mirror(run).complete


def test_on_a_full_disk_a_sweep_says_so_and_the_next_one_hides(upstream: Misbehaving, small: Path) -> None:
    upstream.add_image(OLD, "1", (b"unsigned",))
    sync(small, upstream)
    filler = small / "store" / "filler"
    fill_up(filler)
    entry = {"name": "registry1", "urls": [f"http://{upstream.host}"], "content": [{"prefix": "**"}]}
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}, **policy(upstream)}
    profile = parse_profile(json.dumps(document), small / "profile.json").profile
    with pytest.raises(StoreError, match="the store is full"):
        sweep(profile, store_of(small))
    assert_complete(store_of(small), f"{OLD}:1")
    filler.unlink()
    assert sweep(profile, store_of(small)).hidden.keys() == {f"{OLD}:1"}
    assert visible(store_of(small)) == []


@pytest.mark.parametrize("command", ["up", "sync"])
def test_on_a_full_disk_a_command_says_so_in_a_line(small: Path, command: str) -> None:
    profile = small / "profile.json"
    entry = {"urls": ["http://127.0.0.1:9"], "pollInterval": "1h", "content": [{"prefix": "**"}]}
    document = {"storage": {"rootDirectory": "store"}, "http": {"port": 0}, "sync": {"registries": [entry]}}
    profile.write_text(json.dumps(document))
    open_store(load_profile(profile).profile)
    fill_up(small / "store" / "filler")
    done = mirrorflow(command, str(profile))
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "bug" not in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 400


def test_a_read_only_root_fails_what_is_new_and_loses_nothing(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image(OLD, "1", (b"old",))
    sync(tmp_path, upstream)
    upstream.add_image(NEW, "1", (b"new",))
    root = str(tmp_path / "store")
    with opened(tmp_path, f"http://{upstream.host}") as run, mounted("--bind", root, root):
        subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
        report = mirror(run)
        assert visible(run.store) == [f"{OLD}:1"]
    [row] = report.images
    assert (row.image, row.outcome) == (f"{NEW}:1", Outcome.FAILED)
    assert "the store refuses access" in row.reason
    assert report.message == "1 of 2 images, 1 failed"
    assert sync(tmp_path, upstream).message == "2 of 2 images"


def test_a_read_only_root_refuses_also_what_the_pool_has_already(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """No manifest and no blob needs to be fetched: it is the marker and the tag that cannot be written."""
    upstream.add_image(OLD, "1", (b"shared",))
    sync(tmp_path, upstream)
    upstream.add_image(NEW, "1", (b"shared",))
    root = str(tmp_path / "store")
    with opened(tmp_path, f"http://{upstream.host}") as run, mounted("--bind", root, root):
        subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
        report = mirror(run)
    assert ["the store refuses access" in row.reason for row in report.images] == [True]
