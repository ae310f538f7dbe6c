"""Which companions of an image are not here yet: a walk over what refers to what, without an end that a cycle
could take away."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from registry_server.oci import media_types
from registry_server.oci.companion_tags import fallback_tag
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.errors import StoreError
from tasks.companions.formats import NOT_ALLOWED
from tasks.context.referrer_lists import Listed
from tasks.context.verification import is_strict
from tasks.manifests.up_to_date import is_up_to_date
from tasks.manifests.verdict_record import OWN_TYPE
from tasks.run.companion_values import CompanionSet, CompanionStatus, Followed
from tasks.run.errors import is_stop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.companion_values import Following
    from tasks.run.values import Image

# Far beyond what an image has; a hostile upstream ends here.
MOST_COMPANIONS: Final = 1000
MOST_LEVELS: Final = 8
MOST_SUBJECTS: Final = 4096
FOREIGN: Final = "says that it refers to something else"


@dataclass(frozen=True, slots=True)
class Lacking:
    """A companion that is not here. `sure`: its list says reliably that the rule wants it."""

    subject: Digest
    descriptor: Descriptor
    level: int
    sure: bool


@dataclass
class CompanionSearch:
    """The walk for one image. What goes wrong on the way is in `company`, not raised.

    `lasting`: what the reasons begin with for which a companion stays left out.
    """

    run: MirrorRun
    image: Image
    following: Following
    repository: Repository
    lasting: tuple[str, ...] = ()
    company: CompanionSet = field(default_factory=CompanionSet)
    _queue: deque[tuple[Digest, int]] = field(default_factory=deque)
    _subjects: set[Digest] = field(default_factory=set)
    _seen: set[Digest] = field(default_factory=set)

    def look_at(self, subject: Digest, level: int = 0) -> None:
        """Whatever refers to this as well; a subject counts once."""
        if subject not in self._subjects and len(self._subjects) < MOST_SUBJECTS and level < MOST_LEVELS:
            self._subjects.add(subject)
            self._queue.append((subject, level))

    def __iter__(self) -> Iterator[Lacking]:
        """What is lacking; who takes it in may `look_at` it before going on. Raises `Stopped`."""
        while self._queue:
            subject, level = self._queue.popleft()
            listed = self._list(subject, level)
            for descriptor in listed.found if listed else ():
                if descriptor.digest not in self._seen and self._wants(descriptor, listed):
                    self._seen.add(descriptor.digest)
                    if len(self._seen) > MOST_COMPANIONS:
                        self._too_many(subject)
                        return
                    if self._was_left_out(descriptor.digest):
                        continue
                    if not self._is_here(descriptor.digest):
                        yield Lacking(subject, descriptor, level, not (listed and listed.by_tag))
                    elif self.following.deep:
                        self.look_at(descriptor.digest, level + 1)

    def leave_out(self, descriptor: Descriptor, reason: str, *, lasting: bool = False) -> None:
        """`lasting`: it is not looked at again, because its content decides."""
        if lasting:
            self.company.versions[str(descriptor.digest)] = reason
        self.company.troubles.append(
            Followed(str(descriptor.digest), descriptor.artifact_type or "", CompanionStatus.LEFT_OUT, reason)
        )

    def fail(self, what: str, error: MirrorflowError, kind: str = "") -> None:
        self.company.troubles.append(Followed(what, kind, CompanionStatus.FAILED, str(error), error))

    def _list(self, subject: Digest, level: int) -> Listed | None:
        self.run.check_stopped()
        tag, lists, source = fallback_tag(subject), self.run.lists, self.image.source
        known = "" if self.following.deep and self.run.only else self._noted(tag)
        try:
            if self._may_be_in_vain(subject, level) and not lists.is_cheap(source, subject):
                return None
            listed = lists.of(source, subject, known=known)
        except MirrorflowError as error:
            if is_stop(error):
                raise
            self.fail(f"list of what refers to {subject}", error)
            return None
        if version := known if listed is None else listed.version:
            self.company.versions[tag] = version
        if listed is None and self.following.deep:  # the same as before, but there may be news below
            return Listed(tuple(self.repository.referrers(subject)), by_tag=True)
        return listed

    def _may_be_in_vain(self, subject: Digest, level: int) -> bool:
        """Asked by tag, without a list of tags: not for each platform, nor each time for what is here."""
        if self.following.deep and self.run.only:
            return False
        return not level and (subject != self.image.digest or self.image.held)

    def _was_left_out(self, digest: Digest) -> bool:
        """What it is does not change; it is looked at again when its image is asked for by name."""
        reason = "" if self.run.only else self._noted(str(digest))
        if not reason.startswith(self.lasting):
            return False
        self.company.versions[str(digest)] = reason
        return True

    def _noted(self, key: str) -> str:
        record = self.repository.poll(self.run.entry.name)
        return record.companions.get(key, "") if record else ""

    def _wants(self, descriptor: Descriptor, listed: Listed | None) -> bool:
        if listed is not None and listed.by_tag:
            return True  # cosign #4641: what such a list says of types is often wrong
        return self.following.takes(descriptor.artifact_type, descriptor.annotations)

    def _is_here(self, digest: Digest) -> bool:
        """A store that cannot tell will say so where the companion is kept."""
        try:
            return is_up_to_date(self.repository, digest, digest)
        except StoreError:
            return False

    def _too_many(self, subject: Digest) -> None:
        reason = f"only {MOST_COMPANIONS} companions of an image are taken"
        self.company.troubles.append(
            Followed(f"list of what refers to {subject}", "", CompanionStatus.LEFT_OUT, reason)
        )


def find_missing(run: MirrorRun, image: Image, following: Following) -> CompanionSearch:
    """Begin at the image itself."""
    lasting = (FOREIGN, OWN_TYPE, NOT_ALLOWED) if is_strict(run, image) else (FOREIGN, OWN_TYPE)
    seeking = CompanionSearch(run, image, following, run.store.repository(image.local), lasting)
    seeking.look_at(image.digest)
    return seeking


def lacks_companions(run: MirrorRun, image: Image, following: Following) -> tuple[bool, CompanionSet]:
    """Whether an image that is here has companions that are not. At most one request, unless `deep`."""
    seeking = find_missing(run, image, following)
    if following.deep:
        for child in children_here(seeking.repository, image.digest):
            seeking.look_at(child)
    return any(True for _ in seeking), seeking.company


def children_here(repository: Repository, digest: Digest) -> Iterable[Digest]:
    """The manifests below one that is in the store, at every depth; those that are absent are left out."""
    pending, seen = [digest], set[Digest]()
    while pending and len(seen) < MOST_SUBJECTS:
        each = pending.pop()
        if each in seen:
            continue
        seen.add(each)
        try:
            descriptor, body = repository.read_manifest(each)
        except (NotFound, StoreError):
            continue
        if each != digest:
            yield each
        manifest = parse_manifest(body, descriptor.media_type)
        pending += [child.digest for child in manifest.manifests if child.media_type in media_types.MANIFESTS]


def signature_tags(run: MirrorRun, source: str, subject: Digest) -> list[Tag]:
    """cosign's tags for a digest, as far as the tags have been listed."""
    stem = fallback_tag(subject)
    known = run.lists.companion_tags(source) or ()
    return [Tag(tag) for suffix in ("sig", "att", "sbom") if (tag := f"{stem}.{suffix}") in known]
