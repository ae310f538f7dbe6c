"""Tags that an upstream deletes: what `status` says, what `prune` removes and what not, and the way back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from flows.maintenance.pruning import list_pruned, prune_entries, undelete_images
from flows.reporting.tag_status import tag_statuses
from profiles.loader import parse_profile
from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import NothingToUndelete
from registry_server.store.mirror_state.pruned_tags import all_pruned
from tasks.planning import plan_entry
from tests.in_the_wild.cases.prune_cases import (
    APP,
    CASES,
    RULE,
    TAGS,
    Case,
    a_month_later,
    delete,
)
from tests.registry_server.store.gc.collecting import age, gc
from tests.registry_server.store.images import tag_image
from tests.tasks.runs import assert_complete, opened, store_of, sync, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from profiles.model.profile import Profile
    from registry_server.store.store import Store
    from tests.support_misbehaving import Misbehaving

    Change = Callable[[Misbehaving, Store], object]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_prune_removes(case: Case, tmp_path: Path, upstream: Misbehaving) -> None:
    mirrored(tmp_path, upstream)
    store = store_of(tmp_path)
    before = {*visible(store)}
    case.change(upstream, store)
    before |= {*visible(store)}
    rules = {"prefix": "**", **case.rule}, *case.more
    sync(tmp_path, upstream, *rules)
    assert before <= {*visible(store)}, "nothing goes the first time"
    before = {*visible(store)}
    a_month_later(store)
    case.again(upstream, store)
    report = sync(tmp_path, upstream, *rules)
    assert {*visible(store)} == before - {f"{APP}:{tag}" for tag in case.removed}, report.notes
    assert case.note in " ".join(report.notes)
    assert bool(case.note) == bool(report.notes)


def profile_of(folder: Path) -> Profile:
    entry = {"name": "registry1", "urls": ["http://127.0.0.1:1"], "content": [RULE]}
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}}
    return parse_profile(json.dumps(document), folder / "profile.json").profile


def mirrored(folder: Path, upstream: Misbehaving) -> None:
    for tag in TAGS:
        upstream.add_image(APP, tag, layers=(tag.encode(),))
    assert sync(folder, upstream).complete


def pruned(folder: Path, upstream: Misbehaving) -> Store:
    """A store from which 1.0 was pruned."""
    mirrored(folder, upstream)
    store = store_of(folder)
    delete("1.0")(upstream, store)
    sync(folder, upstream, RULE)
    a_month_later(store)
    assert sync(folder, upstream, RULE).complete
    assert f"{APP}:1.0" not in visible(store)
    return store


def test_status_says_since_when_a_tag_is_gone_and_that_is_no_problem(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    mirrored(tmp_path, upstream)
    delete("1.0")(upstream, store_of(tmp_path))
    sync(tmp_path, upstream)
    rows = {row.reference: row for row in tag_statuses(store_of(tmp_path))}
    poll = store_of(tmp_path).repository(APP).poll("registry1")
    assert poll is not None
    assert (rows["1.0"].gone_since, rows["1.0"].upstream_digest) == (poll.checked, "")
    assert rows["1.0"].in_place
    assert {row.gone_since for tag, row in rows.items() if tag != "1.0"} == {None}
    sync(tmp_path, upstream, only=[f"{APP}:1.1"])  # which looks at that one alone
    again = {row.reference: row for row in tag_statuses(store_of(tmp_path))}
    assert again["1.0"].gone_since == rows["1.0"].gone_since


def test_a_plan_names_what_goes_and_removes_nothing(tmp_path: Path, upstream: Misbehaving) -> None:
    mirrored(tmp_path, upstream)
    delete("1.0")(upstream, store_of(tmp_path))
    sync(tmp_path, upstream, RULE)
    with opened(tmp_path, f"http://{upstream.host}", RULE) as run:
        assert not plan_entry(run)
        a_month_later(run.store)
        assert plan_entry(run).prune == (f"{APP}:1.0",)
        upstream.add_image(APP, "1.0", layers=(b"1.0",))
        assert plan_entry(run).prune == ()
        assert len(visible(run.store)) == len(TAGS)


def test_with_yes_more_than_the_share_goes(tmp_path: Path, upstream: Misbehaving) -> None:
    mirrored(tmp_path, upstream)
    store = store_of(tmp_path)
    delete(*TAGS[:5])(upstream, store)
    sync(tmp_path, upstream, RULE)
    a_month_later(store)
    profile = profile_of(tmp_path)
    said: list[str] = []
    assert prune_entries(profile, store, None, yes=False, told=said.append) == 5
    assert len(visible(store)) == len(TAGS)
    assert prune_entries(profile, store, None, yes=True, told=said.append) == 0
    assert len(visible(store)) == len(TAGS) - 5
    assert "registry1: 5 tags removed" in said


def test_undelete_brings_a_tag_back_out_of_the_trash(tmp_path: Path, upstream: Misbehaving) -> None:
    store = pruned(tmp_path, upstream)
    age(store)
    assert gc(store).manifests == 1
    profile = profile_of(tmp_path)
    assert [line.partition(": ")[0] for line in list_pruned(store)] == [f"{APP}:1.0"]
    assert list(undelete_images(profile, store, [f"{APP}:1.0"])) == [f"{APP}:1.0 is restored"]
    assert_complete(store, f"{APP}:1.0")
    assert not all_pruned(store)
    assert sync(tmp_path, upstream, RULE).complete  # it is gone anew, and has its month
    assert f"{APP}:1.0" in visible(store)


def test_companions_go_and_come_back_with_their_image(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image(APP, "1.0", layers=(b"1.0",))
    signature = image.manifest.digest.replace(":", "-") + ".sig"
    upstream.add_image(APP, signature, layers=(b"signature",))
    mirrored(tmp_path, upstream)
    store = store_of(tmp_path)
    assert f"{APP}:{signature}" in visible(store)
    delete("1.0", signature)(upstream, store)
    sync(tmp_path, upstream, RULE)
    a_month_later(store)
    sync(tmp_path, upstream, RULE)
    assert not {f"{APP}:1.0", f"{APP}:{signature}"} & {*visible(store)}
    assert len(list(undelete_images(profile_of(tmp_path), store, [f"{APP}:1.0"]))) == 2
    assert {f"{APP}:1.0", f"{APP}:{signature}"} <= {*visible(store)}


def test_what_the_collector_has_had_does_not_come_back(tmp_path: Path, upstream: Misbehaving) -> None:
    store = pruned(tmp_path, upstream)
    profile = profile_of(tmp_path)
    for _ in range(2):
        age(store)
        gc(store)
    with pytest.raises(MirrorflowError, match=r"there is no manifest|cannot be set"):
        list(undelete_images(profile, store, [f"{APP}:1.0"]))
    assert list(list_pruned(store)) == []


@pytest.mark.parametrize(
    ("image", "said"),
    [
        pytest.param(f"{APP}:1.1", "was not removed by prune", id="it is here"),
        pytest.param("library/other:1", "was not removed by prune", id="never heard of"),
        pytest.param(f"{APP}@sha256:{'0' * 64}", "write the tag that was removed", id="a digest"),
        pytest.param(f"{APP}:1.0", "names another manifest now", id="pushed anew"),
    ],
)
def test_undelete_refuses(tmp_path: Path, upstream: Misbehaving, image: str, said: str) -> None:
    store = pruned(tmp_path, upstream)
    tag_image(store.repository(APP), "1.0", b"pushed")
    profile = profile_of(tmp_path)
    with pytest.raises(NothingToUndelete, match=said):
        list(undelete_images(profile, store, [image]))


def test_a_removal_that_was_cut_short_goes_on(tmp_path: Path, upstream: Misbehaving) -> None:
    """Killed after the way back was written: the tag is here, and the next run removes it."""
    store = pruned(tmp_path, upstream)
    profile = profile_of(tmp_path)
    ((name, tag, found),) = all_pruned(store)
    list(undelete_images(profile, store, [f"{name}:{tag}"]))
    path = store.root / "pruned" / name / "_r" / tag
    path.write_text("half a fi")
    sync(tmp_path, upstream, RULE)
    a_month_later(store)
    sync(tmp_path, upstream, RULE)
    assert f"{APP}:1.0" not in visible(store)
    assert [each.record for _, _, each in all_pruned(store)] == [found.record]
