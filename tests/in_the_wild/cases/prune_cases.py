"""What happens upstream and in the store between two polls, and which tags `prune` removes then."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.reference import RepositoryName, Tag
from tests.registry_server.store.images import tag_image
from tests.support_misbehaving import answers, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable

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
        "removed 2 tags that the upstream deleted: library/app:1.0, library/app:1.1",
    ),
    Case("without prune everything stays", "the default", delete("1.0"), rule={}),
    Case(
        "more than the share is an accident of the upstream",
        "podman-container-tools/skopeo#2503: an exact copy would have deleted all of it",
        delete(*TAGS[:3]),
        note=r"gone upstream for 30d: 3 of 10 tags, which is more than maxShare 20%",
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
        "removed 1 tag that",
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
