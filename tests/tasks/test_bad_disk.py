"""A store that refuses: every image says so, nothing half is visible, and what was there is there."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tasks.outcomes import Outcome
from tests.tasks.runs import assert_complete, mirror, opened, store_of, sync, visible

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
