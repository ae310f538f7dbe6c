"""Tags that the upstream has deleted: which of them go, by the rules' `prune`.

Decided from the store and the profile alone. The polls note since when a tag is gone (`PollRecord.gone`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from profiles.matching import listed_references, sources
from profiles.tag_filter import why_dropped
from profiles.values.durations import format_duration
from registry_server.counted import counted
from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.reference import ImageName, Tag
from registry_server.store.errors import NothingToUndelete, StoreError
from registry_server.store.mirror_state.pruned_tags import all_pruned, find_pruned, forget_useless, prune_tags
from registry_server.store.mirror_state.pruned_tags import undelete as put_back
from tasks.destinations.interface import DestinationFailed
from tasks.stored.images import StoredImages

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from profiles.model.content_rule import ContentRule, Prune
    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.records import PollRecord, TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.context.mirror_run import MirrorRun
    from tasks.destinations.registry import RegistryDestination

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Doomed:
    """A tag that goes; `since` when it is gone, in unix seconds."""

    name: ImageName
    record: TagRecord
    since: float


@dataclass(frozen=True, slots=True)
class Pruning:
    """What goes, what would go if it were not more than `maxShare`, and a sentence for each such rule."""

    doomed: tuple[Doomed, ...] = ()
    spared: tuple[Doomed, ...] = ()
    notes: tuple[str, ...] = ()


def decide(store: Store, entry: RegistryEntry, *, beyond_share: bool = False) -> Pruning:
    """What goes now; `beyond_share`: also more than `maxShare`, because somebody agreed to that.

    Raises `StoreError`.
    """
    if not any(rule.prune for rule in entry.content):
        return Pruning()
    look = _Look(entry)
    for name in store.repositories():
        if taking := sources(entry, name):
            look.at(store.repository(name), taking)
    full = [] if beyond_share else [number for number in look.doomed if look.is_too_much(number)]
    doomed = {each.name: each for found in look.doomed.values() for each in found}
    spared = {each.name: each for number in full for each in look.doomed[number]}
    return Pruning(
        tuple(each for name, each in doomed.items() if name not in spared),
        tuple(spared.values()),
        tuple(look.too_much(number) for number in full),
    )


@dataclass(slots=True)
class _Look:
    """The tags of one entry, by the number of the rule that takes them."""

    entry: RegistryEntry
    tags: Counter[int] = field(default_factory=Counter)
    doomed: dict[int, list[Doomed]] = field(default_factory=lambda: defaultdict(list))

    def at(self, repository: Repository, taking: Sequence[tuple[ContentRule | None, str]]) -> None:
        poll = repository.poll(self.entry.name)
        for tag, record in repository.tag_records().items():
            rules = self._rules_of(tag, record, taking)
            self.tags.update(rules)
            since = _since(tag, record, poll, [self.entry.content[number].prune for number in rules])
            if since is not None:
                doomed = Doomed(ImageName(repository.name, tag), record, since)
                for number in rules:
                    self.doomed[number].append(doomed)

    def _rules_of(
        self, tag: Tag, record: TagRecord, taking: Sequence[tuple[ContentRule | None, str]]
    ) -> set[int]:
        """The rules that take a tag which came from this entry; a companion goes with its image."""
        origin = record.origin
        if origin is None or origin.registry != self.entry.name or is_companion_tag(tag):
            return set()
        return {
            self.entry.content.index(rule)
            for rule, source in taking
            if rule and source == origin.repository and _takes(rule, source, tag)
        }

    def is_too_much(self, number: int) -> bool:
        return len(self.doomed[number]) > self._share(number) * self.tags[number]

    def too_much(self, number: int) -> str:
        prune, found = self.entry.content[number].prune, len(self.doomed[number])
        assert prune is not None, "only a rule with prune dooms a tag"
        return (
            f"{self.entry.name}, rule {number + 1}: gone upstream for {format_duration(prune.after)}: "
            f"{found:,} of {counted(self.tags[number], 'tag')}, which is more than maxShare "
            f"{prune.max_share * 100:g}%: none of them is removed; `mirrorflow store prune --yes` removes "
            "them"
        )

    def _share(self, number: int) -> float:
        prune = self.entry.content[number].prune
        return prune.max_share if prune is not None else 0.0


def _takes(rule: ContentRule, source: str, tag: Tag) -> bool:
    """A rule with `rename` counts for every tag: the one here does not tell which of the upstream it was."""
    if rule.images:
        return tag in listed_references(rule, source)
    renames = rule.tags is not None and rule.tags.rename is not None
    return renames or not why_dropped(rule.tags, tag)


def _since(
    tag: Tag, record: TagRecord, poll: PollRecord | None, prunes: Sequence[Prune | None]
) -> float | None:
    """Since when it is gone, if it goes now: the last poll found it gone, and every rule wants it removed.

    The last poll counts, and not the clock: a repository that is not polled any more keeps its tags. So does
    one whose list of tags failed or was empty in that poll.
    """
    since = poll.gone.get(tag) if poll is not None else None
    if poll is None or since is None or not prunes or record.origin is None:
        return None
    if poll.lists.get(record.origin.repository) != poll.checked:
        return None
    for prune in prunes:
        if prune is None or poll.checked - since < prune.after:
            return None
        if any(pattern.matches(tag) for pattern in prune.keep):
            return None
    return since


def remove(
    store: Store,
    doomed: Sequence[Doomed],
    now: float,
    elsewhere: Callable[[RepositoryName, Iterable[Tag]], Container[Tag]] = lambda _name, _tags: (),
) -> list[ImageName]:
    """Take them out of what is served, with the companions that are for them alone.

    `elsewhere` removes them in other registries before, and says which of them stay. The names of what was
    removed. Raises `StoreError`.
    """
    found: dict[RepositoryName, dict[Tag, TagRecord]] = defaultdict(dict)
    for each in doomed:
        assert isinstance(each.name.reference, Tag), "only tags are doomed"
        found[each.name.repository][each.name.reference] = each.record
    removed: list[ImageName] = []
    for name, tags in found.items():
        together = tags | _companions(store.repository(name), tags)
        left = elsewhere(name, together)
        together = {tag: record for tag, record in together.items() if tag not in left}
        prune_tags(store, name, together, now)
        removed += (ImageName(name, tag) for tag in together)
    return removed


def _companions(repository: Repository, tags: Mapping[Tag, TagRecord]) -> dict[Tag, TagRecord]:
    """Companion tags of what goes, and of nothing that stays."""
    records = repository.tag_records()
    roots = {root for record in tags.values() for root in record.roots}
    roots -= {root for tag, record in records.items() if tag not in tags for root in record.roots}
    return {tag: record for tag, record in records.items() if subject_of(tag) in roots}


def prune(run: MirrorRun, polled: Container[RepositoryName]) -> None:
    """After a whole run whose polls are recorded: remove what is due, and note it for the report.

    `polled` are the repositories that the run has searched. A shard removes nothing elsewhere: other shards
    work there. `maxShare` is of all tags of a rule, whichever shard has them.
    A store that refuses is noted too: what was mirrored is mirrored all the same.
    """
    if run.only or run.stop.is_set():
        return
    try:
        found = decide(run.store, run.entry)
        doomed = [each for each in found.doomed if run.shard is None or each.name.repository in polled]
        removed = remove(run.store, doomed, run.now(), elsewhere=partial(remove_elsewhere, run))
        run.audit.removed(removed)
        if any(rule.prune for rule in run.entry.content):
            forget_useless(run.store, run.now())
    except StoreError as error:
        run.live.remark(f"{run.entry.name}: tags deleted upstream cannot be removed: {error}")
        return
    for note in found.notes:
        run.live.remark(note)
    if removed:
        run.live.remark(
            f"removed {counted(len(removed), 'tag')} that the upstream deleted: {_some(removed)}; "
            "`mirrorflow store undelete` restores what was removed until its blobs are collected"
        )


def remove_elsewhere(run: MirrorRun, local: RepositoryName, tags: Iterable[Tag]) -> set[Tag]:
    """In other registries, as far as they delete tags and the tags are ours still.

    Those that the first destination keeps, where that is a registry.
    """
    left: set[Tag] = set()
    for registry in run.targets.registries:
        refused = {tag: reason for tag in tags if (reason := _why_left(registry, local, tag))}
        for tag, reason in refused.items():
            run.live.remark(f"{local}:{tag} was deleted upstream, and stays there: {reason}")
        if registry is run.targets.primary:
            left = set(refused)
    return left


def _why_left(registry: RegistryDestination, local: RepositoryName, tag: Tag) -> str:
    """Why it could not be removed; "" when it was."""
    try:
        if not registry.delete_tag(local, tag):
            return f"destination {registry.name} deletes no tags"
    except DestinationFailed as error:
        return str(error)
    return ""


def undelete(profile: Profile, store: Store, name: RepositoryName, tag: Tag) -> list[ImageName]:
    """Bring back a tag that was pruned, with the companions that went with it; their names.

    Raises `NothingToUndelete`, `StoreError`.
    """
    if subject := subject_of(tag):
        raise NothingToUndelete(f"{name}:{tag} is restored with its image{_of_subject(store, name, subject)}")
    found = find_pruned(store, name, tag)
    if found is not None and StoredImages(profile, store).is_outdated(name, tag, found.record):
        raise NothingToUndelete(
            f"{name}:{tag} was judged by another policy than today's, and may not be served unjudged; if the "
            "upstream has it again, a sync brings it"
        )
    _begin_anew(store.repository(name), tag)
    restored = [ImageName(name, tag)]
    roots = set(put_back(store, name, tag).roots)
    for place, companion, _ in all_pruned(store):
        if place == name and subject_of(companion) in roots:
            put_back(store, name, companion)
            restored.append(ImageName(name, companion))
    return restored


def _of_subject(store: Store, name: RepositoryName, subject: Digest) -> str:
    """Which image a companion belongs to: the policy covers that one, and no companion."""
    for place, tag, found in all_pruned(store):
        if place == name and subject in found.record.roots:
            return f": undelete {name}:{tag}"
    return f", {subject}; that was not removed by prune, or can no longer be restored"


def _begin_anew(repository: Repository, tag: Tag) -> None:
    """The time that a tag was gone before it was removed does not count when it is back."""
    polls = repository.polls()
    for poll in polls:
        if tag in poll.gone:
            gone = {each: since for each, since in poll.gone.items() if each != tag}
            repository.put_poll(replace(poll, gone=gone), keep={each.registry for each in polls})


def _some(names: Sequence[ImageName]) -> str:
    shown = ", ".join(str(each) for each in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
