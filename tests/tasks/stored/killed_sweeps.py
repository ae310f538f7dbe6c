"""Sweeps that are killed: run by test_killed_sweeps.py, never imported by it.

python -m tests.tasks.stored.killed_sweeps FOLDER: FOLDER has profile and store as they are before.
"""

from __future__ import annotations

import shutil
import sys
from functools import partial
from itertools import count
from pathlib import Path

from flows.entries import open_store
from profiles.loader import load_profile
from registry_server.oci.reference import Tag
from registry_server.store.gc.collector import collect
from registry_server.store.gc.retention import GcOptions
from tasks.stored.policy_sweep import sweep
from tests.registry_server.store.filesystem.crash_writer import in_child, killed_at
from tests.registry_server.store.images import check, check_closure
from tests.tasks.companies import APP

SIGNED, UNSIGNED = Tag("v1"), (Tag("v2"), Tag("v3"))


def sweep_once(place: Path) -> None:
    profile = load_profile(place / "profile.json").profile
    sweep(profile, open_store(profile))


def doomed(place: Path, kill_at: int) -> None:
    killed_at(kill_at)
    sweep_once(place)


def collect_all(place: Path) -> None:
    """Twice: the first collection moves to the trash, the second empties it."""
    store = open_store(load_profile(place / "profile.json").profile)
    for _ in range(2):
        collect(store, {store.root: GcOptions(delay=-10, settle=0)})


def check_store(place: Path, *, ended: bool) -> None:
    """Every image is whole where it is; `ended`: the unsigned ones are hidden, the signed one is served."""
    store = open_store(load_profile(place / "profile.json").profile)
    check(store)
    visible, hidden = store.repository(APP), store.hidden(APP)
    assert visible.tag(SIGNED) is not None
    for tag in UNSIGNED:
        areas = [area for area in (visible, hidden) if area.tag(tag) is not None]
        assert areas == [hidden] if ended else areas, f"{tag} is in {areas}"
        for area in areas:
            check_closure(area, tag)


def main(folder: Path) -> int:
    """Kill a child before its first step, its second, … until one comes through; how many were killed."""
    for kill_at in count(1):
        place = folder / "killed"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "store", place / "store")
        shutil.copy(folder / "profile.json", place)
        status = in_child(partial(doomed, place, kill_at))
        check_store(place, ended=status == 0)
        if status == 0:
            return kill_at - 1
        collect_all(place)
        check_store(place, ended=False)
        sweep_once(place)
        collect_all(place)
        check_store(place, ended=True)
    raise AssertionError


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
