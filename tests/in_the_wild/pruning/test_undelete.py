"""The way back of a pruned tag: who may tidy it up, and by which name it is asked for."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flows.maintenance.pruning import list_pruned, undelete_images
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import NothingToUndelete
from registry_server.store.mirror_state import pruned_tags
from registry_server.store.mirror_state.pruned_tags import (
    all_pruned,
    forget_pruned,
    forget_useless,
    prune_tags,
)
from registry_server.store.store import Store
from tests.in_the_wild.cases.prune_cases import APP, RULE, a_month_later, delete
from tests.in_the_wild.pruning.test_prune import mirrored, profile_of, pruned
from tests.registry_server.store.images import image, tag_image
from tests.tasks.runs import store_of, sync, visible

if TYPE_CHECKING:
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


def test_a_companion_comes_back_with_its_image_alone(tmp_path: Path, upstream: Misbehaving) -> None:
    """By its own name it would pass the policy by, which judges images."""
    image = upstream.add_image(APP, "1.0", layers=(b"1.0",))
    signature = image.manifest.digest.replace(":", "-") + ".sig"
    upstream.add_image(APP, signature, layers=(b"signature",))
    mirrored(tmp_path, upstream)
    store, profile = store_of(tmp_path), profile_of(tmp_path)
    delete("1.0", signature)(upstream, store)
    sync(tmp_path, upstream, RULE)
    a_month_later(store)
    sync(tmp_path, upstream, RULE)
    with pytest.raises(NothingToUndelete, match=f"is restored with its image: undelete {APP}:1.0"):
        list(undelete_images(profile, store, [f"{APP}:{signature}"]))
    forget_pruned(store, APP, Tag("1.0"))
    with pytest.raises(NothingToUndelete, match=f"is restored with its image, {image.manifest.digest}"):
        list(undelete_images(profile, store, [f"{APP}:{signature}"]))
    assert f"{APP}:{signature}" not in visible(store)


def test_whenever_a_prune_is_killed_the_tag_is_here_or_comes_back(tmp_path: Path) -> None:
    repository = Store.open(tmp_path / "store").repository(RepositoryName("app"))
    for tag in ("gone", "stays"):
        tag_image(repository, tag, tag.encode())
    command = [sys.executable, "-m", "tests.in_the_wild.pruning.killed_prunes", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5, "the kills met the steps of a prune"


def test_a_push_while_a_tag_is_brought_back_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(tmp_path / "store")
    repository = store.repository(RepositoryName("app"))
    tag_image(repository, "1", b"old")
    prune_tags(store, repository.name, repository.tag_records(), 0.0)
    restore = pruned_tags._restore

    def push(*arguments: Any) -> None:
        restore(*arguments)
        tag_image(repository, "1", b"pushed")

    monkeypatch.setattr(pruned_tags, "_restore", push)
    with pytest.raises(NothingToUndelete, match="app:1 names another manifest now"):
        pruned_tags.undelete(store, repository.name, Tag("1"))
    held = repository.tag(Tag("1"))
    assert held is not None
    assert held.digest == image(b"pushed").descriptor().digest
