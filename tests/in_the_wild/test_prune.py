"""Tags that an upstream deletes: what `status` says, what `prune` removes and what not, and the way back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from flows.maintenance.pruning import list_pruned, prune_entries, undelete_images
from flows.reporting.tag_status import tag_statuses
from profiles.loader import parse_profile
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import NothingToUndelete
from registry_server.store.mirror_state.pruned_tags import all_pruned
from tasks.planning import plan_entry
from tests.registry_server.store.collecting import age, gc
from tests.registry_server.store.images import tag_image
from tests.support_misbehaving import answers, json_answer
from tests.tasks.runs import assert_complete, opened, store_of, sync, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from profiles.model.profile import Profile
    from registry_server.store.store import Store
    from tests.support_misbehaving import Exchange, Misbehaving

    Change = Callable[[Misbehaving, Store], object]

APP: Final = RepositoryName("library/app")
LIST: Final = f"/v2/{APP}/tags/list"
MONTH: Final = 30 * 86400.0
TAGS: Final = tuple(f"1.{number}" for number in range(10))
PRUNE: Final = {"after": "30d", "maxShare": "20%"}
RULE: Final = {"prefix": "**", "prune": PRUNE}


def delete(*tags: str) -> Change:
    def change(upstream: Misbehaving, _store: Store) -> None:
        repository = upstream.repositories[APP]
        for tag in tags:
            repository.tags.remove(tag)
            del repository.manifests[tag]

    return change


def push(tag: str) -> Change:
    """A client pushes a tag here that the upstream does not have."""

    def change(_upstream: Misbehaving, store: Store) -> None:
        tag_image(store.repository(APP), tag, b"pushed")

    return change


def from_elsewhere(tag: str) -> Change:
    """Another entry brought the tag."""

    def change(upstream: Misbehaving, store: Store) -> None:
        record = store.repository(APP).tag(Tag(tag))
        assert record is not None
        assert record.origin is not None
        origin = replace(record.origin, registry="registry2")
        store.repository(APP).replace_record(Tag(tag), replace(record, origin=origin))
        delete(tag)(upstream, store)

    return change


def lists(*behaviour: Any) -> Change:
    def change(upstream: Misbehaving, _store: Store) -> None:
        delete("1.0")(upstream, _store)
        upstream.on(LIST, *behaviour)

    return change


def cut_at_fifty(upstream: Misbehaving, *, refuses: bool = True) -> None:
    """Fifty other tags push the old ones off the only page that there is."""
    page = [f"0.{number}" for number in range(50)]

    def behave(exchange: Exchange) -> None:
        refused = refuses and "last" in exchange.seen.query
        (answers(400) if refused else json_answer({"tags": page}))(exchange)

    for tag in page:
        upstream.add_image(APP, tag)
    upstream.on(LIST, behave)


def a_month_later(store: Store) -> None:
    """What is gone was seen gone a month earlier than it was."""
    repository = store.repository(APP)
    poll = repository.poll("registry1")
    assert poll is not None
    repository.put_poll(replace(poll, gone={tag: since - MONTH for tag, since in poll.gone.items()}))


@dataclass(frozen=True, slots=True)
class Case:
    """Ten tags are mirrored, something happens, it is polled, a month later it is polled again.

    `removed` are the tags that are not here any more; `note` is a part of what the last report notes.
    """

    what: str
    source: str
    change: Change
    removed: tuple[str, ...] = ()
    note: str = ""
    rule: dict[str, Any] = field(default_factory=lambda: {"prune": PRUNE})
    more: tuple[dict[str, Any], ...] = ()  # further rules
    again: Change = lambda _upstream, _store: None

    def __str__(self) -> str:
        return self.what


CASES: Final = (
    Case(
        "a tag that is deleted goes a month later",
        "project-zot/zot#3102",
        delete("1.0", "1.1"),
        ("1.0", "1.1"),
        "2 tags were removed, because the upstream deleted them: library/app:1.0, library/app:1.1",
    ),
    Case("without prune everything stays", "the default", delete("1.0"), rule={}),
    Case(
        "more than the share is an accident of the upstream",
        "podman-container-tools/skopeo#2503: an exact copy would have deleted all of it",
        delete(*TAGS[:3]),
        note=r"3 of its 10 tags have been gone upstream for 30d, which is more than maxShare 20%",
    ),
    Case(
        "a list that is empty all at once says nothing",
        "quay/quay#5852: an empty list deleted the whole mirror",
        delete(*TAGS),
        note="lists no tag at all, and 10 tags came from there: none of them counts as deleted",
        rule={"prune": PRUNE | {"maxShare": "100%"}},
    ),
    Case(
        "a list that fails says nothing",
        "distribution-spec: 5xx is no answer",
        delete("1.0"),
        again=lambda upstream, _store: upstream.on(LIST, answers(500)),
    ),
    Case(
        "a repository that is not found says nothing",
        "public registries say 404 of what became private",
        delete("1.0"),
        note="none of them counts as deleted",
        again=lambda upstream, _store: upstream.on(LIST, answers(404)),
    ),
    Case(
        "a list that is empty later says nothing",
        "quay/quay#5852: an empty list deleted the whole mirror",
        delete("1.0"),
        note="lists no tag at all",
        rule={"prune": PRUNE | {"maxShare": "100%"}},
        again=delete(*TAGS[1:]),
    ),
    Case(
        "a list that may be cut says nothing",
        "registries that cut a list without a Link and refuse `last=`",
        lambda upstream, _store: cut_at_fifty(upstream),
        note="is taken as whole with 50",
    ),
    Case(
        "a list that may be cut says nothing, where last= is ignored",
        "deitch/docker_registry2 56",
        lambda upstream, _store: cut_at_fifty(upstream, refuses=False),
    ),
    Case(
        "a rule without prune that lists the image keeps it",
        "docs/store.md",
        delete("1.0"),
        more=({"images": [f"{APP}:1.0"]},),
    ),
    Case(
        "a rule without prune that gives tags another name keeps them",
        "the tag here does not tell which of the upstream it was",
        delete("1.0"),
        more=({"prefix": "**", "tags": {"regex": "v.*", "rename": {"regex": "v(.*)", "to": "$1"}}},),
    ),
    Case(
        "a tag that comes back in between begins anew",
        "a registry that restores a backup",
        delete("1.0"),
        again=lambda upstream, _store: upstream.add_image(APP, "1.0", layers=(b"1.0",)),
    ),
    Case(
        "what keep names stays",
        "project-zot/zot#3102: production tags",
        delete("1.0", "1.1"),
        ("1.1",),
        "1 tags were removed",
        rule={"prune": PRUNE | {"keep": ["1\\.0"]}},
    ),
    Case("what a client pushed stays", "invariant 5", push("ours")),
    Case("what another entry brought stays", "invariant 5", from_elsewhere("1.0")),
    Case(
        "what the rule's filter leaves out now is not its to remove",
        "regclient/regclient#1010: a changed filter is no deletion",
        delete("1.0"),
        rule={"prune": PRUNE, "tags": {"excludeRegex": "1\\.0"}},
    ),
)


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
    assert list(undelete_images(profile, store, [f"{APP}:1.0"])) == [f"{APP}:1.0 is here again"]
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
        pytest.param(f"{APP}:1.0", "names something else by now", id="pushed anew"),
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
