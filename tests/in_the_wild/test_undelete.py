"""The way back of a pruned tag: who may tidy it up, and by which name it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flows.maintenance.pruning import list_pruned, undelete_images
from registry_server.store.mirror_state.pruned_tags import all_pruned, forget_useless
from tests.in_the_wild.test_prune import profile_of, pruned

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving


@pytest.mark.parametrize(
    ("change", "later", "kept"),
    [
        pytest.param(None, 0, True, id="a prune is under way"),
        pytest.param(None, 7200, False, id="it was cut short"),
        pytest.param(lambda record: replace(record, verdict="judged anew"), 0, False, id="it came again"),
    ],
)
def test_the_way_back_outlives_who_tidies_up(
    tmp_path: Path, upstream: Misbehaving, change: Any, later: float, *, kept: bool
) -> None:
    """Another process forgets what is useless between the way back and the removal."""
    store = pruned(tmp_path, upstream)
    ((name, tag, found),) = all_pruned(store)
    path = store.root / "pruned" / name / "_r" / tag
    way_back = path.read_bytes()
    list(undelete_images(profile_of(tmp_path), store, [f"{name}:{tag}"]))
    path.write_bytes(way_back)  # as a prune leaves it until its last tag is written down
    if change is not None:
        store.repository(name).replace_record(tag, change(found.record))
    forget_useless(store, found.removed + later)
    assert list(list_pruned(store)) == [], "it is here"
    assert bool(all_pruned(store)) is kept
