"""Whether an image that is in use would be there without its upstream, from the store alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from flows.cover.contents import examine
from flows.cover.places import Place
from flows.reporting.entry_status import is_overdue
from flows.reporting.tag_status import tag_statuses
from profiles.matching import sources
from profiles.tag_filter import local_tag
from registry_server.counted import counted
from registry_server.human_units import human_seconds
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.store.mirror_state.withheld_digests import find_withheld
from tasks.context.cooldown import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flows.cover.places import ClientView
    from flows.cover.used_images import UsedImage
    from flows.reporting.entry_status import EntryStatus
    from flows.reporting.tag_status import TagStatus
    from registry_server.oci.descriptor import Platform
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import PollRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.stored.images import StoredImages

_SHOWN: Final = 2  # things that are missing, in a message


class CoverState(StrEnum):
    """From the best to the worst: of several places the best counts."""

    COVERED = "covered"
    STALE = "stale"
    PLATFORM_MISSING = "platform missing"
    INCOMPLETE = "incomplete"
    NOT_ADMITTED = "not admitted"
    NOT_HERE = "not here"
    UNREACHABLE = "not where clients look"
    NOT_MIRRORED = "not mirrored"
    NO_IMAGE = "no image name"


ORDER: Final = {state: number for number, state in enumerate(CoverState)}


@dataclass(frozen=True, slots=True)
class Coverage:
    """One image that is in use. `local` is its repository here, `entry` the registry entry; "" for none.

    `wants_rule`: a content rule is missing, and not a run. `notes` are no problems.
    """

    image: UsedImage
    state: CoverState
    reason: str = ""
    local: str = ""
    entry: str = ""
    digest: str = ""
    notes: tuple[str, ...] = ()
    wants_rule: bool = False

    @property
    def is_covered(self) -> bool:
        return self.state is CoverState.COVERED

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.image.full_name,
            "written": self.image.written,
            "usedBy": list(self.image.places),
            "covered": self.is_covered,
            "state": str(self.state),
            "reason": self.reason,
            "notes": list(self.notes),
            "registry": self.entry or None,
            "repository": self.local or None,
            "digest": self.digest or None,
            "wantsRule": self.wants_rule,
        }


@dataclass(slots=True)
class CoverageCheck:
    """What is judged against: a store (None: there is none yet), and the platforms that nodes have.

    `now` in Unix seconds.
    """

    view: ClientView
    store: Store | None
    images: StoredImages | None
    entries: Mapping[str, EntryStatus]
    platforms: Sequence[Platform]
    now: float
    _rows: dict[str, dict[str, TagStatus]] = field(default_factory=dict)

    def judge(self, used: UsedImage) -> Coverage:
        """Raises `StoreError` where the store itself cannot be read."""
        name = used.name
        if name is None:
            reason = "no container runtime takes it as the name of an image"
            return Coverage(used, CoverState.NO_IMAGE, reason)
        looked_for, places = self.view.looked_for(name), self.view.places(name)
        if self.view.is_own(name):
            found = [self._own(used, local) for local in looked_for]
        else:
            found = [self._at(used, place) for place in places if place.local in looked_for]
        if found:
            return min(found, key=lambda each: (ORDER[each.state], each.wants_rule))
        return self._nowhere(used, places, looked_for)

    def _nowhere(
        self, used: UsedImage, places: Sequence[Place], looked_for: Sequence[RepositoryName]
    ) -> Coverage:
        if not places:
            assert used.name is not None, "the caller has looked"
            reason = f"no content rule takes {used.name.registry}/{used.name.repository}"
            return Coverage(used, CoverState.NOT_MIRRORED, reason, wants_rule=True)
        where = ", ".join(dict.fromkeys(place.local for place in places))
        asked = f"as {', '.join(looked_for)}" if looked_for else "not at all"
        reason = f"it is filed as {where}, and {self.view.kind} asks for it {asked}"
        return Coverage(
            used, CoverState.UNREACHABLE, reason, places[0].local, places[0].entry.name, wants_rule=True
        )

    def _own(self, used: UsedImage, local: RepositoryName) -> Coverage:
        """An image that is named by the mirror's own address: whatever brought it there."""
        place = next((each for each in self._filed_as(local) if not each.why_not(used.reference)), None)
        found = Coverage(used, CoverState.COVERED, local=local, entry=place.entry.name if place else "")
        if self._find(local, used.reference) is None:
            why = (
                self._why_not_here(used, place) if place else "nothing brings it here: push it, or mirror it"
            )
            return replace(found, state=CoverState.NOT_HERE, reason=why)
        return self._judge_stored(found, local, used.reference, place)

    def _filed_as(self, local: RepositoryName) -> list[Place]:
        entries = self.view.profile.sync.registries if self.view.profile.sync.enable else ()
        return [
            Place(local, entry, name, (rule,)) for entry in entries for rule, name in sources(entry, local)
        ]

    def _at(self, used: UsedImage, place: Place) -> Coverage:
        reference = used.reference
        found = Coverage(used, CoverState.COVERED, local=place.local, entry=place.entry.name)
        if self._find(place.local, reference) is None:
            return self._not_here(found, used, place)
        return self._judge_stored(found, place.local, reference, place)

    def _not_here(self, found: Coverage, used: UsedImage, place: Place) -> Coverage:
        reference = used.reference
        if why := place.why_not(reference):
            reason = f"the content rules of {place.entry.name} leave it out: {why}"
            return replace(found, state=CoverState.NOT_MIRRORED, reason=reason, wants_rule=True)
        if refused := self._refused(place.local, reference):
            return replace(found, state=CoverState.NOT_ADMITTED, reason=refused)
        why = self._why_not_here(used, place)
        return replace(found, state=CoverState.NOT_HERE, reason=why, wants_rule=not place.entry.is_synced)

    def _refused(self, local: RepositoryName, reference: Tag | Digest) -> str:
        """That a policy or `minAge` keeps it out, as the store remembers."""
        if self.store is None:
            return ""
        if self._in(self.store.hidden(local), reference) is not None:
            return "it is stored, and hidden: a policy refuses it"
        withheld = find_withheld(self.store, local, reference)
        if withheld is None:
            return ""
        if withheld.refused:
            return withheld.refused
        return words(withheld) if withheld.until > self.now else ""

    def _why_not_here(self, used: UsedImage, place: Place) -> str:
        if self.store is None:
            return "there is no store yet: run `mirrorflow sync`"
        reference = str(used.reference)
        row = self._row(place.local, reference) or self._row(place.local, "")
        if row is not None and row.problem:
            return row.problem
        poll = self.store.repository(place.local).poll(place.entry.name)
        if poll is not None:
            return _why_not_taken(place, reference, poll)
        if place.entry.is_synced:
            return f"no run has looked at it yet: run `mirrorflow sync --registry {place.entry.name}`"
        return "it comes only when a client asks for it, and none has"

    def _judge_stored(
        self, found: Coverage, local: RepositoryName, reference: Tag | Digest, place: Place | None
    ) -> Coverage:
        assert self.store is not None, "it was found there"
        repository = self.store.repository(local)
        record = None if isinstance(reference, Digest) else repository.tag(reference)
        digest = self._find(local, reference)
        assert digest is not None, "the caller has found it"
        wanted = self.platforms or (place.parts(reference).platforms if place else ())
        contents = examine(
            repository, digest, wanted, record.sparse if record else self._sparse(repository, digest)
        )
        found = replace(
            found, digest=str(digest), notes=tuple(self._notes(found.image, repository, digest, record))
        )
        if contents.unknown:
            names = ", ".join(map(str, contents.unknown))
            found = replace(found, notes=(*found.notes, f"the image itself has nothing for {names}"))
        if contents.foreign and not (record and record.foreign):
            note = "it has layers that registries do not distribute; `foreignLayers: fetch` would store them"
            found = replace(found, notes=(*found.notes, note))
        if contents.missing:
            return replace(found, state=CoverState.INCOMPLETE, reason=_listed(contents.missing))
        if contents.absent:
            return self._lacks_platforms(found, contents.absent, place)
        return self._admitted_and_fresh(found, local, reference)

    def _lacks_platforms(self, found: Coverage, absent: Sequence[Platform], place: Place | None) -> Coverage:
        reason = f"not stored for {', '.join(map(str, absent))}"
        only = place.parts(found.image.reference).platforms if place else ()
        is_wanted = not only or all(any(wish.accepts(each) for wish in only) for each in absent)
        if place is not None and place.entry.is_synced and is_wanted:
            reason = f"{reason}; the content rules take it: run `mirrorflow sync`"
            return replace(found, state=CoverState.PLATFORM_MISSING, reason=reason)
        return replace(found, state=CoverState.PLATFORM_MISSING, reason=reason, wants_rule=True)

    def _admitted_and_fresh(
        self, found: Coverage, local: RepositoryName, reference: Tag | Digest
    ) -> Coverage:
        if isinstance(reference, Digest):
            return found
        stored = (
            next((each for each in self.images.of(local) if each.tag == reference), None)
            if self.images
            else None
        )
        if stored is not None and stored.problem:
            return replace(found, state=CoverState.NOT_ADMITTED, reason=stored.problem)
        row = self._row(local, str(reference))
        if row is not None and row.problem:
            return replace(found, state=CoverState.STALE, reason=row.problem)
        if row is not None and (late := self._too_old(found.entry, row)):
            return replace(found, state=CoverState.STALE, reason=late)
        if row is not None and row.held_back:
            return replace(found, notes=(*found.notes, f"a newer digest is held back: {row.held_back}"))
        return found

    def _too_old(self, registry: str, row: TagStatus) -> str:
        """That the tag was compared with its upstream longer ago than the schedule allows; "" otherwise."""
        entry = next((each for each in self.view.profile.sync.registries if each.name == registry), None)
        if entry is None or entry.timing is None or row.gone_since is not None:
            return ""
        status = self.entries.get(registry)
        took = float(status.report.get("seconds", 0.0)) if status else 0.0
        last, now = (datetime.fromtimestamp(each, UTC) for each in (row.last_success or 0.0, self.now))
        if not is_overdue(entry.timing, last, took, now):
            return ""
        age = human_seconds((now - last).total_seconds())
        return f"compared with its upstream {age} ago, polled {entry.timing}"

    def _notes(self, used: UsedImage, repository: Repository, digest: Digest, record: Any) -> Iterable[str]:
        roots = {str(digest), *(str(each) for each in (record.roots if record else ()))}
        others = [
            each
            for each in used.running
            if each not in roots and not self._is_child(repository, digest, each)
        ]
        if others:
            kept = (
                "that is here too"
                if all(repository.has_blob(Digest(each)) for each in others)
                else "that is not here"
            )
            yield f"{counted(len(others), 'digest')} of it that run are not what the tag names here; {kept}"
        if record is not None and record.origin is None:
            yield "it was pushed or imported: no run compares it with an upstream"

    def _is_child(self, repository: Repository, digest: Digest, other: str) -> bool:
        """A runtime may name the manifest of its platform instead of the index."""
        return any(other == str(each) for each in _children(repository, digest))

    def _sparse(self, repository: Repository, digest: Digest) -> tuple[Digest, ...]:
        """What a digest lacks on purpose: what a tag on it declares."""
        for record in repository.tag_records().values():
            if digest in record.roots:
                return record.sparse
        return ()

    def _find(self, local: RepositoryName, reference: Tag | Digest) -> Digest | None:
        return None if self.store is None else self._in(self.store.repository(local), reference)

    @staticmethod
    def _in(repository: Repository, reference: Tag | Digest) -> Digest | None:
        try:
            return repository.find_manifest(reference).descriptor.digest
        except NotFound:
            return None

    def _row(self, local: RepositoryName, reference: str) -> TagStatus | None:
        assert self.store is not None, "the caller has looked"
        if local not in self._rows:
            rows = tag_statuses(self.store, entries=set(self.entries), only=[local], now=self.now)
            self._rows[local] = {row.reference: row for row in rows}
        return self._rows[local].get(reference)


def _why_not_taken(place: Place, reference: str, poll: PollRecord) -> str:
    """Why the last poll brought nothing under this name, although a rule takes the tag by its name."""
    if declined := poll.declined.get(reference, ""):
        return f"the last run left it out: {declined.partition(' ')[2]}"
    rules = [rule for rule in place.rules if rule is not None]
    renamed = {local_tag(rule, reference) for rule in rules if ":" not in reference} - {reference}
    if renamed:
        return f"a rule renames the tag to {', '.join(sorted(renamed))}"
    if newest := [rule.tags.newest for rule in rules if rule.tags and rule.tags.newest]:
        return f"the last run left it out: it is none of the newest {max(newest)}, or not upstream"
    return "the last run did not find it upstream"


def _children(repository: Repository, digest: Digest) -> Iterable[Digest]:
    try:
        descriptor, body = repository.read_manifest(digest)
    except MirrorflowError:  # `examine` says what is wrong with it
        return []
    return [child.digest for child in parse_manifest(body, descriptor.media_type).manifests]


def _listed(texts: Sequence[str]) -> str:
    shown = "; ".join(texts[:_SHOWN])
    return f"{shown}; and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else shown
