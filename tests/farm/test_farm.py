"""Two workers and two servers over one store, whose hosts die one after the other.

`python -m tests.farm` runs the same with 2,000 images and 50 kills.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.farm.chaos import Runs, check_visible, fetched, finish, kill_hosts
from tests.farm.farm import Size, Storage, await_ready, running_farm

if TYPE_CHECKING:
    from pathlib import Path

STORAGES = ["folder", "s3"]


@pytest.mark.parametrize("storage", STORAGES)
def test_two_workers_fetch_each_blob_once_and_both_servers_hand_out_everything(
    tmp_path: Path, storage: Storage
) -> None:
    with running_farm(tmp_path, Size(images=24, repositories=6), storage=storage) as farm:
        runs = Runs(farm)
        assert len(runs.start()) == 2, "a run of each shard"
        runs.wait()
        assert runs.ended() == {"Completed": 2}
        for number in range(2):
            await_ready(farm, number)
            assert check_visible(farm, number) == 24
        assert set(fetched(farm).values()) == {1}
        farm.servers[0].kill()
        assert check_visible(farm, 1) == 24


@pytest.mark.parametrize("storage", STORAGES)
def test_hosts_that_die_leave_nothing_incomplete_to_be_seen(tmp_path: Path, storage: Storage) -> None:
    with running_farm(tmp_path, Size(images=30, repositories=6), storage=storage) as farm:
        for number in range(2):
            await_ready(farm, number)
        runs = kill_hosts(farm, kills=4, seed=3, say=lambda _: None)
        finish(farm, runs)
        for number in range(2):
            assert check_visible(farm, number) == 30
