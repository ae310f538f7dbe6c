"""Prunes that are killed: run by test_undelete.py, never imported by it.

python -m tests.in_the_wild.pruning.killed_prunes FOLDER: FOLDER/store has two tags of `app`, one of them
gone upstream (`gone`), the other not (`stays`).
"""

from __future__ import annotations

import shutil
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.mirror_state.pruned_tags import prune_tags, undelete
from registry_server.store.store import Store
from tests.registry_server.store.filesystem.crash_writer import in_child, killed_at
from tests.registry_server.store.images import check, check_closure

APP, GONE, STAYS = RepositoryName("app"), Tag("gone"), Tag("stays")


def prune(place: Path, kill_at: int = 0) -> None:
    store = Store.open(place)
    record = store.repository(APP).tag(GONE)
    assert record is not None
    if kill_at:
        killed_at(kill_at)
    prune_tags(store, APP, {GONE: record}, time.time())


def check_store(place: Path, *, ended: bool) -> None:
    """The tag is whole where it is, and where it is not, it comes back."""
    store = Store.open(place)
    repository = store.repository(APP)
    check(store)
    check_closure(repository, STAYS)
    if repository.tag(GONE) is None:
        undelete(store, APP, GONE)
    else:
        assert not ended
    check_closure(repository, GONE)


def main(folder: Path) -> int:
    """Kill a child before its first step, its second, … until one comes through; how many were killed."""
    for kill_at in count(1):
        place = folder / "killed"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "store", place)
        status = in_child(partial(prune, place, kill_at))
        check_store(place, ended=status == 0)
        if status == 0:
            return kill_at - 1
        prune(place)
        check_store(place, ended=True)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
