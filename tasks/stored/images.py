"""What is stored, by today's policies: which image is covered by which, and whether that one has judged it.

Judging reads the store alone, its signatures included: no network.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from profiles.matching import mappings, source_name, sources
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.errors import NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import MANIFESTS
from registry_server.oci.reference import RepositoryName
from tasks.context.verification import Verification

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import Tag
    from registry_server.store.records import Origin, TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.trust.policy import Policy
    from tasks.trust.verdict import Verdict


class Standing(StrEnum):
    """How a stored image stands to the policy that covers it."""

    NO_POLICY = "no policy"
    CURRENT = "judged"
    NEVER = "not judged yet by the policy that covers it"
    OUTDATED = "judged by an earlier policy"
    KEPT = "served, and short of the policy"
    HIDDEN = "hidden, and short of the policy"


DUE = frozenset({Standing.NEVER, Standing.OUTDATED})
"""What the next sweep judges."""
FINE = frozenset({Standing.NO_POLICY, Standing.CURRENT})


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A tag that an entry of the profile brought. `source` is `host/repository`, as policies name it."""

    repository: RepositoryName
    tag: Tag
    record: TagRecord
    entry: RegistryEntry
    source: str
    policy: str  # the fingerprint of the policy that covers it, "" for none
    hidden: bool = False

    @property
    def name(self) -> str:
        return f"{self.repository}:{self.tag}"

    @property
    def upstream_digest(self) -> Digest:
        """What signatures are made for: the upstream's digest, also of an image that was converted."""
        return self.record.upstream_digest

    @property
    def standing(self) -> Standing:
        if self.hidden:
            return Standing.HIDDEN
        if not self.policy:
            return Standing.NO_POLICY
        if self.record.judged_by != self.policy:
            return Standing.OUTDATED if self.record.judged_by else Standing.NEVER
        from tasks.trust.verdict import VerdictOutcome

        return Standing.KEPT if self.record.verdict.startswith(VerdictOutcome.REFUSED) else Standing.CURRENT

    @property
    def problem(self) -> str:
        """Why it is not as the policy wants it, in words; "" when it is."""
        if self.standing in FINE:
            return ""
        said = "" if self.standing in DUE else f": {self.record.verdict}"
        return f"{self.standing}{said}"


@dataclass(slots=True)
class StoredImages:
    """The images of one store under one profile. Loads no verifier until something is judged."""

    profile: Profile
    store: Store
    _verifications: dict[str, Verification] = field(default_factory=dict)
    _entries: dict[str, RegistryEntry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._entries = {entry.name: entry for entry in self.profile.sync.registries}
        policies = None
        if self.profile.verify is not None or any(entry.only_signed for entry in self._entries.values()):
            from tasks.trust.compiling import Policies

            policies = Policies(self.profile.trust, self.profile.verify)
        for entry in self._entries.values():
            self._verifications[entry.name] = Verification.of(self.profile, entry, policies)

    def __bool__(self) -> bool:
        """Whether any policy is there."""
        return any(self._verifications.values())

    def of(self, name: RepositoryName, *, hidden: bool = False) -> Iterator[StoredImage]:
        """The images of one repository; companions are none, they go with theirs."""
        repository = self.store.hidden(name) if hidden else self.store.repository(name)
        for tag, record in repository.tag_records().items():
            image = self._image(name, tag, record, hidden=hidden)
            if image is not None:
                yield image

    def described(self, name: RepositoryName, tag: Tag, record: TagRecord) -> StoredImage | None:
        """What the tag would be here; None where no entry of the profile brings it."""
        return self._image(name, tag, record)

    def is_due(self, name: RepositoryName, tag: Tag) -> bool:
        """Whether the tag is here, and by another policy than today's."""
        record = self.store.repository(name).tag(tag) if self else None
        return record is not None and self.is_outdated(name, tag, record)

    def is_outdated(self, name: RepositoryName, tag: Tag, record: TagRecord) -> bool:
        """Whether another policy than today's let in what the record says."""
        image = self._image(name, tag, record) if self else None
        return image is not None and image.standing in DUE

    def _image(
        self, name: RepositoryName, tag: Tag, record: TagRecord, *, hidden: bool = False
    ) -> StoredImage | None:
        """None for what clients pushed, and for what no entry of the profile brings here any more."""
        entry = self._entry_of(name, record.origin) if record.origin else None
        if entry is None or record.origin is None or is_companion_tag(tag):
            return None
        source = source_name(entry, record.origin.repository)
        policy = self._verifications[entry.name].fingerprint_for(source, tag)
        return StoredImage(name, tag, record, entry, source, policy, hidden)

    def _entry_of(self, name: RepositoryName, origin: Origin) -> RegistryEntry | None:
        """The entry that brought it; where the profile has none of that name, one that would.

        An entry can be renamed, and without a name of its own it is called by its URL: its images stay under
        the policies.
        """
        if origin.registry in self._entries:
            return self._entries[origin.registry]
        candidates = self._entries.values()
        return next(
            (
                each
                for each in candidates
                if any(place == origin.repository for _, place in sources(each, name))
            ),
            None,
        )

    def all(self) -> Iterator[StoredImage]:
        """Those that are served, and those that are hidden and not served under the same name again."""
        for name in self.store.repositories():
            yield from self.of(name)
        for name in self.store.hiding():
            yield from self._only_hidden(name)

    def in_areas(self, name: RepositoryName) -> Iterator[StoredImage]:
        """What `all` says of one repository."""
        yield from self.of(name)
        yield from self._only_hidden(name)

    def _only_hidden(self, name: RepositoryName) -> Iterator[StoredImage]:
        visible = self.store.repository(name)
        yield from (each for each in self.of(name, hidden=True) if visible.tag(each.tag) is None)

    def not_judged(self) -> Counter[str]:
        """How many images that are served no policy is asked about, by the reason."""
        found: Counter[str] = Counter()
        for name in self.store.repositories():
            for tag, record in self.store.repository(name).tag_records().items():
                if is_companion_tag(tag):
                    continue
                if record.origin is None:
                    found["that clients pushed"] += 1
                elif self._entry_of(name, record.origin) is None:
                    entry = record.origin.registry
                    found[f"of the registry entry {entry!r}, which the profile does not have"] += 1
        return found

    def shortfalls(self) -> list[StoredImage]:
        """Those that are not as the policies want them."""
        return [image for image in self.all() if image.standing not in FINE] if self else []

    def by_digest(self, name: RepositoryName) -> tuple[str, ...]:
        """Fingerprints of the policies that hold what has no tag in this repository out of it."""
        found = []
        for entry in self._entries.values():
            verification = self._verifications[entry.name]
            for _, source in sources(entry, name):
                if verification.keeps_out(source_name(entry, source), None):
                    found.append(verification.fingerprint_for(source_name(entry, source), None))
        return tuple(dict.fromkeys(found))

    def policy_of(self, image: StoredImage) -> Policy | None:
        return self._verifications[image.entry.name].policy_for(image.source, image.tag)

    def judge(self, image: StoredImage) -> Verdict | None:
        """By the policy that covers it now, from what is stored; None without. Raises `MirrorflowError`."""
        policy = self.policy_of(image)
        if policy is None:
            return None
        from tasks.trust.judging import judge_image
        from tasks.trust.sources import StoreSource

        repository = self.area(image)
        digest = image.upstream_digest
        place = self.signatures_place(image) or image.repository
        return judge_image(
            digest,
            repository.find_manifest(digest).descriptor.media_type,
            StoreSource(self.store.repository(place), self.store.hidden(place)),
            policy,
            children=lambda each: held_children(repository, each.digest),
            reference=f"{image.source}:{image.tag}",
        )

    def area(self, image: StoredImage) -> Repository:
        """The part of its repository that the image is in."""
        name = image.repository
        return self.store.hidden(name) if image.hidden else self.store.repository(name)

    def signatures_place(self, image: StoredImage) -> RepositoryName | None:
        """Where the policy expects the signatures; None where that repository is not mirrored."""
        policy = self.policy_of(image)
        if policy is None or not policy.repository:
            return image.repository
        if not image.entry.content:  # the rule None of `sources`: under its own name
            return RepositoryName(policy.repository) if RepositoryName.is_valid(policy.repository) else None
        return next((local for _, local in mappings(image.entry, policy.repository)), None)


def count_by_entry(images: Iterable[StoredImage]) -> dict[str, Counter[Standing]]:
    """How many images of each registry entry stand how."""
    found: dict[str, Counter[Standing]] = {}
    for image in images:
        found.setdefault(image.entry.name, Counter())[image.standing] += 1
    return found


def held_children(repository: Repository, digest: Digest) -> Iterable[Descriptor]:
    """The manifests that an index lists and that are here. Raises what reading a manifest raises."""
    descriptor, body = repository.read_manifest(digest)
    children = parse_manifest(body, descriptor.media_type).manifests
    found = (_as_stored(repository, child) for child in children if repository.has_blob(child.digest))
    return [child for child in found if child is not None]


def _as_stored(repository: Repository, child: Descriptor) -> Descriptor | None:
    """With the type of the manifest that is here: what an index says may be wrong. None for a blob."""
    try:
        return replace(child, media_type=repository.find_manifest(child.digest).descriptor.media_type)
    except NotFound:
        return child if child.media_type in MANIFESTS else None
