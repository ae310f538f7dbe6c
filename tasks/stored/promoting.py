"""Promotion: the tags below one prefix of the store come to stand below another, all of them or none.

Every image is judged anew: by the policy that covers where it came from, and by the rule that names where it
goes. What it consists of has to be here. Only then the tags change: in the store all at once (tag_switch.py),
in another registry one after the other (registry_place.py).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from profiles.model.destination import STORE
from registry_server.bundles.closure import StoredClosure
from registry_server.counted import counted
from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, MirrorflowError
from registry_server.oci.reference import ImageName, RepositoryName, Tag
from registry_server.store.errors import StoreError
from registry_server.store.mirror_state.tag_switch import (
    ROLE,
    Change,
    TagChange,
    all_changes,
)
from tasks.stored.policy_sweep import may_follow
from tasks.stored.promotion_places import Move
from tasks.stored.promotion_verdicts import PromotionJudge
from tasks.stored.registry_place import open_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from profiles.model.profile import Profile
    from registry_server.store.mirror_state.snapshots import Snapshot
    from registry_server.store.records import TagRecord
    from registry_server.store.store import Store
    from tasks.stored.promotion_places import PromotionPlace

_SHOWN = 20


class PromotionRefused(MirrorflowError):
    """Not all images of a set may come to stand there: none does. `problems` by image."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        more = len(problems) - _SHOWN
        lines = [f"{name}: {reason}" for name, reason in list(problems.items())[:_SHOWN]]
        lines += [f"and {counted(more, 'more image')}"] if more > 0 else []
        super().__init__("\n".join(["nothing was changed, because of:", *lines]))
        self.problems = dict(problems)


class MovedSince(StoreError):
    """A tag is not what a promotion made it."""


class NothingToPromote(MirrorflowError):
    """There is no tag below the prefix, or nothing that could be taken back."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """One tag on its way: where it stands, where it comes to stand, what that names now and then."""

    source: ImageName
    target: ImageName
    change: TagChange


@dataclass(slots=True)
class PromotionPlan:
    """What a promotion would do. `unchanged` tags name the same there already. `strict`: the repositories in
    which a policy keeps anything out, so that only known formats follow an image.
    """

    tags: list[Promoted] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    strict: set[RepositoryName] = field(default_factory=set)


@dataclass(slots=True)
class Promoter:
    """Promotions of what one store has, under one profile. `by` is who does it."""

    profile: Profile
    store: Store
    by: str
    _judge: PromotionJudge = field(init=False)

    def __post_init__(self) -> None:
        self._judge = PromotionJudge(self.profile, self.store)

    def plan(self, source: str, target: str, snapshot: Snapshot | None = None) -> PromotionPlan:
        """Look at everything below the prefix `source`, or at what a snapshot has of it. Changes nothing.

        `target` as for `open_place`. Raises `NothingToPromote`, `TrustBroken`, `StoreError`,
        `DestinationFailed`.
        """
        with open_place(self.profile, self.store, target, source) as (place, prefix):
            return self._plan(place, source, prefix, snapshot)

    def _plan(
        self, place: PromotionPlace, source: str, target: str, snapshot: Snapshot | None
    ) -> PromotionPlan:
        found = PromotionPlan()
        if not place.destination and target.startswith(f"{source}/"):
            found.problems[target] = (
                f"it is below {source!r}, so the next promotion would promote what this one puts there; "
                "name a place that is not"
            )
            return found
        for name, records in self._records(source, snapshot):
            moved = _moved(name, source, target)
            if moved is None:
                found.problems[name] = f"there is no repository name for it below {target!r}"
            elif problem := place.conflict(moved):
                found.problems[moved] = problem
            else:
                self._plan_repository(place, name, moved, records, found)
        if not found.tags and not found.problems and not found.unchanged:
            where = f"the snapshot {snapshot.name}" if snapshot else "this store"
            raise NothingToPromote(f"{where} has no tag below {source!r}; 'mirrorflow store ls' lists tags")
        return found

    def promote(self, source: str, target: str, snapshot: Snapshot | None = None) -> Change | None:
        """Do it; None: everything is there already. Raises `PromotionRefused`, and what `plan` and
        `PromotionPlace.switch` raise."""
        with (
            self.store.claim(ROLE),
            self.store.lease(),
            open_place(self.profile, self.store, target, source) as (place, prefix),
        ):
            place.finish_interrupted()
            plan = self._plan(place, source, prefix, snapshot)
            if plan.problems:
                raise PromotionRefused(plan.problems)
            if not plan.tags:
                return None
            self._stage(place, plan)
            what = f"promote {source} to {target}" + (f" from snapshot {snapshot.name}" if snapshot else "")
            change = self._change(what, {str(each.target): each.change for each in plan.tags}, place)
            place.switch(change)
        return replace(change, done=True)

    def rollback(self, change: str | None = None) -> Change:
        """Take a promotion back, by default the last one that was not. In the store images are judged again.

        Raises `NothingToPromote`, `PromotionRefused`, and what `PromotionPlace.switch` raises.
        """
        with self.store.claim(ROLE), self.store.lease():
            undone = self._undoable(change)
            where = f"{undone.destination or STORE}:"
            with open_place(self.profile, self.store, where, STORE) as (place, _):
                place.finish_interrupted()
                tags = self._inverses(place, undone)
                what = f"roll back {undone.id} ({undone.what})"
                back = self._change(what, tags, place, undoes=undone.id)
                place.switch(back)
        return replace(back, done=True)

    def _inverses(self, place: PromotionPlace, undone: Change) -> dict[str, TagChange]:
        """Raises `PromotionRefused`."""
        tags, problems = dict[str, TagChange](), dict[str, str]()
        now = place.found([ImageName.parse(text) for text in undone.tags])
        for text, each in undone.tags.items():
            name = ImageName.parse(text)
            try:
                tags[text] = self._inverse(place, name, each, now[name])
            except MirrorflowError as error:
                problems[text] = str(error)
        if problems:
            raise PromotionRefused(problems)
        return tags

    def _records(
        self, prefix: str, snapshot: Snapshot | None
    ) -> Iterator[tuple[RepositoryName, dict[Tag, TagRecord]]]:
        names = snapshot.tags if snapshot else self.store.repositories()
        for name in names:
            if name == prefix or name.startswith(f"{prefix}/"):
                records = snapshot.tags[name] if snapshot else self.store.repository(name).tag_records()
                yield name, dict(records)

    def _plan_repository(
        self,
        place: PromotionPlace,
        name: RepositoryName,
        target: RepositoryName,
        records: dict[Tag, TagRecord],
        found: PromotionPlan,
    ) -> None:
        images = {tag: record for tag, record in records.items() if not is_companion_tag(tag)}
        called = place.called(target)
        if self._is_strict(name, target, called, images):
            found.strict.add(target)
        closure, whole = self._closure(name, target, found), set[Digest]()
        there = place.found([ImageName(target, tag) for tag in records])
        for tag, record in images.items():
            image = ImageName(target, tag)
            try:
                whole |= closure.add(place.after(record))
                verdict = self._judge.verdict_on(name, image, called, record)
                after = place.after(replace(record, verdict=verdict))
                _add(found, ImageName(name, tag), image, there[image], after)
            except MirrorflowError as error:
                found.problems[str(image)] = str(error)
        for tag, record in records.items():
            if tag not in images and subject_of(tag) in whole and closure.follows(record.digest):
                companion = ImageName(target, tag)
                _add(found, ImageName(name, tag), companion, there[companion], place.after(record))

    def _is_strict(
        self, name: RepositoryName, target: RepositoryName, called: str, images: Mapping[Tag, TagRecord]
    ) -> bool:
        try:
            return any(
                self._judge.keeps_out(name, ImageName(target, tag), called, record)
                for tag, record in images.items()
            )
        except MirrorflowError:  # the verdict says why
            return True

    def _closure(self, name: RepositoryName, target: RepositoryName, plan: PromotionPlan) -> StoredClosure:
        """Of images that go from one repository to the other (invariant 4: with nothing to be run)."""
        held = self.store.repository(name)
        return (
            StoredClosure(held, partial(may_follow, held)) if target in plan.strict else StoredClosure(held)
        )

    def _stage(self, place: PromotionPlace, plan: PromotionPlan) -> None:
        """Everything that the tags will name, into the repositories where they will stand."""
        closures: dict[tuple[RepositoryName, RepositoryName], StoredClosure] = {}
        for each in plan.tags:
            assert each.change.after is not None, "a promotion removes nothing"
            pair = (each.source.repository, each.target.repository)
            closure = closures.setdefault(pair, self._closure(*pair, plan))
            closure.add(each.change.after)
        place.stage(
            Move(self.store.repository(source), target, closure)
            for (source, target), closure in closures.items()
        )

    def _change(
        self, what: str, tags: Mapping[str, TagChange], place: PromotionPlace, undoes: str = ""
    ) -> Change:
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%S}-{now.microsecond:06}-{secrets.token_hex(3)}"
        when = now.isoformat(timespec="seconds")
        return Change(name, what, self.by, when, tags, undoes, place.destination)

    def _undoable(self, change: str | None) -> Change:
        done = [each for each in all_changes(self.store) if each.done]
        undone = {each.undoes for each in done}
        left = [each for each in done if not each.undoes and each.id not in undone]
        found = [each for each in left if change in (None, each.id)]
        if not found:
            known, which = ", ".join(each.id for each in left[-5:]), f" {change}" if change else ""
            raise NothingToPromote(
                f"there is no promotion{which} that could be taken back{known and f'; there is: {known}'}"
            )
        return found[-1]

    def _inverse(
        self, place: PromotionPlace, name: ImageName, each: TagChange, now: TagRecord | MirrorflowError | None
    ) -> TagChange:
        """Raises `MovedSince`, and what judging raises."""
        if (
            isinstance(now, MirrorflowError)
            or now is None
            or each.after is None
            or now.roots != each.after.roots
        ):
            raise MovedSince("it has been moved since; promote what it is to be instead")
        if each.before is None:
            return TagChange(now, None)
        if is_companion_tag(name.reference) or not place.judges_rollback():
            return TagChange(now, each.before, each.before.verdict)
        called = place.called(name.repository)
        return TagChange(now, each.before, self._judge.verdict_on(name.repository, name, called, each.before))


def _add(
    found: PromotionPlan,
    source: ImageName,
    target: ImageName,
    before: TagRecord | MirrorflowError | None,
    after: TagRecord,
) -> None:
    """Raises `before` where it is an error: the tag may not be moved."""
    if isinstance(before, MirrorflowError):
        raise before
    if before is not None and before.roots == after.roots:
        found.unchanged += 1
    else:
        found.tags.append(Promoted(source, target, TagChange(before, after, after.verdict)))


def _moved(name: RepositoryName, source: str, target: str) -> RepositoryName | None:
    try:
        return RepositoryName(f"{target}{name.removeprefix(source)}")
    except InvalidName:
        return None
