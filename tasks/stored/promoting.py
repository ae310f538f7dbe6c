"""Promotion: the tags below one prefix of the store come to stand below another, all of them or none.

Every image is judged anew: by the policy that covers where it came from, and by the rule that names where it
goes. What it consists of has to be here. Only then the tags change, in one go (tag_switch.py).
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from profiles.matching import sources
from registry_server.bundles.closure import StoredClosure
from registry_server.counted import counted
from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import ImageName, RepositoryName, Tag
from registry_server.store.errors import StoreError
from registry_server.store.mirror_state.tag_switch import (
    ROLE,
    Change,
    TagChange,
    all_changes,
    switch_tags,
)
from tasks.stored.policy_sweep import may_follow
from tasks.stored.promotion_verdicts import PromotionJudge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from profiles.model.profile import Profile
    from registry_server.store.mirror_state.snapshots import Snapshot
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

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
    """Promotions within one store, under one profile. `by` is who does it."""

    profile: Profile
    store: Store
    by: str
    _judge: PromotionJudge = field(init=False)

    def __post_init__(self) -> None:
        self._judge = PromotionJudge(self.profile, self.store)

    def plan(self, source: str, target: str, snapshot: Snapshot | None = None) -> PromotionPlan:
        """Look at everything below the prefix `source`, or at what a snapshot has of it. Changes nothing.

        Raises `NothingToPromote`, `TrustBroken`, `StoreError`.
        """
        found = PromotionPlan()
        for name, records in self._records(source, snapshot):
            moved = _moved(name, source, target)
            if moved is None:
                found.problems[name] = f"there is no repository name for it below {target!r}"
            elif problem := self._conflict(moved):
                found.problems[moved] = problem
            else:
                self._plan_repository(name, moved, records, found)
        if not found.tags and not found.problems and not found.unchanged:
            where = f"the snapshot {snapshot.name}" if snapshot else "this store"
            raise NothingToPromote(f"{where} has no tag below {source!r}; 'mirrorflow store ls' lists tags")
        return found

    def promote(self, source: str, target: str, snapshot: Snapshot | None = None) -> Change | None:
        """Do it; None: everything is there already. Raises `PromotionRefused`, and what `plan` and
        `switch_tags` raise."""
        with self.store.claim(ROLE), self.store.lease():
            plan = self.plan(source, target, snapshot)
            if plan.problems:
                raise PromotionRefused(plan.problems)
            if not plan.tags:
                return None
            self._stage(plan)
            what = f"promote {source} to {target}" + (f" from snapshot {snapshot.name}" if snapshot else "")
            change = self._change(what, {str(each.target): each.change for each in plan.tags})
            switch_tags(self.store, change)
        return replace(change, done=True)

    def rollback(self, change: str | None = None) -> Change:
        """Take a promotion back, by default the last one that was not. Every image is judged again.

        Raises `NothingToPromote`, `PromotionRefused`, and what `switch_tags` raises.
        """
        with self.store.claim(ROLE), self.store.lease():
            undone = self._undoable(change)
            problems: dict[str, str] = {}
            tags: dict[str, TagChange] = {}
            for text, each in undone.tags.items():
                name = ImageName.parse(text)
                try:
                    tags[text] = self._inverse(name, each)
                except MirrorflowError as error:
                    problems[text] = str(error)
            if problems:
                raise PromotionRefused(problems)
            back = self._change(f"roll back {undone.id} ({undone.what})", tags, undoes=undone.id)
            switch_tags(self.store, back)
        return replace(back, done=True)

    def _records(
        self, prefix: str, snapshot: Snapshot | None
    ) -> Iterator[tuple[RepositoryName, dict[Tag, TagRecord]]]:
        names = snapshot.tags if snapshot else self.store.repositories()
        for name in names:
            if name == prefix or name.startswith(f"{prefix}/"):
                records = snapshot.tags[name] if snapshot else self.store.repository(name).tag_records()
                yield name, dict(records)

    def _conflict(self, target: RepositoryName) -> str:
        """Invariant 5: what a registry entry brings is that entry's, and the next poll would move it."""
        for entry in self.profile.sync.registries:
            if entry.content and sources(entry, target):
                return f"the registry entry {entry.name!r} brings what is under this name; take another one"
        return ""

    def _plan_repository(
        self,
        name: RepositoryName,
        target: RepositoryName,
        records: dict[Tag, TagRecord],
        found: PromotionPlan,
    ) -> None:
        images = {tag: record for tag, record in records.items() if not is_companion_tag(tag)}
        if self._is_strict(name, target, images):
            found.strict.add(target)
        closure, whole = self._closure(name, target, found), set[Digest]()
        there = self.store.repository(target)
        for tag, record in images.items():
            image = ImageName(target, tag)
            try:
                whole |= closure.add(record)
                verdict = self._judge.verdict_on(name, image, record)
            except MirrorflowError as error:
                found.problems[str(image)] = str(error)
                continue
            self._add(found, ImageName(name, tag), image, there.tag(tag), replace(record, verdict=verdict))
        for tag, record in records.items():
            if tag not in images and subject_of(tag) in whole and closure.follows(record.digest):
                self._add(found, ImageName(name, tag), ImageName(target, tag), there.tag(tag), record)

    def _is_strict(
        self, name: RepositoryName, target: RepositoryName, images: Mapping[Tag, TagRecord]
    ) -> bool:
        try:
            return any(
                self._judge.keeps_out(name, ImageName(target, tag), record) for tag, record in images.items()
            )
        except MirrorflowError:  # the verdict says why
            return True

    def _closure(self, name: RepositoryName, target: RepositoryName, plan: PromotionPlan) -> StoredClosure:
        """Of images that go from one repository to the other (invariant 4: with nothing to be run)."""
        held = self.store.repository(name)
        return (
            StoredClosure(held, partial(may_follow, held)) if target in plan.strict else StoredClosure(held)
        )

    def _add(
        self,
        found: PromotionPlan,
        source: ImageName,
        target: ImageName,
        before: TagRecord | None,
        record: TagRecord,
    ) -> None:
        if before is not None and before.roots == record.roots:
            found.unchanged += 1
            return
        origin = record.origin and replace(record.origin, on_demand=False)
        after = replace(record, pushed=time.time(), origin=origin)
        found.tags.append(Promoted(source, target, TagChange(before, after, record.verdict)))

    def _stage(self, plan: PromotionPlan) -> None:
        """Everything that the tags will name, into the repositories where they will stand."""
        closures: dict[tuple[RepositoryName, RepositoryName], StoredClosure] = {}
        for each in plan.tags:
            assert each.change.after is not None, "a promotion removes nothing"
            pair = (each.source.repository, each.target.repository)
            closure = closures.setdefault(pair, self._closure(*pair, plan))
            closure.add(each.change.after)
        for (source, target), closure in closures.items():
            if source != target:
                _bring(self.store.repository(source), self.store.repository(target), closure)

    def _change(self, what: str, tags: Mapping[str, TagChange], undoes: str = "") -> Change:
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%S}-{now.microsecond:06}-{secrets.token_hex(3)}"
        return Change(name, what, self.by, now.isoformat(timespec="seconds"), tags, undoes)

    def _undoable(self, change: str | None) -> Change:
        done = [each for each in all_changes(self.store) if each.done]
        undone = {each.undoes for each in done}
        left = [each for each in done if not each.undoes and each.id not in undone]
        found = [each for each in left if change in (None, each.id)]
        if not found:
            known, which = ", ".join(each.id for each in left[-5:]) or "none", f" {change}" if change else ""
            raise NothingToPromote(
                f"there is no promotion{which} that could be taken back; there is: {known}"
            )
        return found[-1]

    def _inverse(self, name: ImageName, each: TagChange) -> TagChange:
        """Raises `MovedSince`, and what judging raises."""
        assert isinstance(name.reference, Tag), "tags are promoted"
        now = self.store.repository(name.repository).tag(name.reference)
        if now is None or each.after is None or now.roots != each.after.roots:
            raise MovedSince("it has been moved since; promote what it is to be instead")
        if each.before is None:
            return TagChange(now, None)
        if is_companion_tag(name.reference):
            return TagChange(now, each.before)
        return TagChange(now, each.before, self._judge.verdict_on(name.repository, name, each.before))


def _moved(name: RepositoryName, source: str, target: str) -> RepositoryName | None:
    try:
        return RepositoryName(f"{target}{name.removeprefix(source)}")
    except InvalidName:
        return None


def _bring(source: Repository, target: Repository, closure: StoredClosure) -> None:
    for blob in closure.blobs:
        if not target.adopt_blob(blob):
            _copy(source, target, blob)
    for digest in closure.manifests:
        descriptor, body = source.read_manifest(digest)
        target.put_manifest(parse_manifest(body, descriptor.media_type), digest)


def _copy(source: Repository, target: Repository, digest: Digest) -> None:
    """Repositories in different storage roots share no content."""
    held = source.find_blob(digest)
    with target.receive_blob(Descriptor("", digest, held.size)) as incoming:
        if not incoming.complete:
            for piece in held.pieces(incoming.offset):
                incoming.write(piece)
        incoming.commit()
