"""A changed policy judges what is stored: what falls short is hidden, or kept and noted.

Judged are exactly the images whose tag was admitted by another policy than today's, or by none, from the
signatures in the store. What is hidden is not in place for a poll: its usual steps ask the upstream, and
publish the image again if a signature there counts.

Where a policy holds by digest, whatever no admitted tag stands on is hidden as well (invariant 4): untagged
leftovers, and companions in formats that may not follow an image.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from profiles.matching import sources
from registry_server.counted import counted
from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import ImageName
from registry_server.store.closure import manifests_below
from registry_server.store.mirror_state.hidden_content import hide, last_sweep, note_sweep
from registry_server.store.repository_reader import held_manifests
from tasks.companions.formats import LARGEST, STORED_FORMATS, why_not_allowed
from tasks.run.audit import audit_of
from tasks.stored.images import DUE, StoredImages

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.stored.images import StoredImage

log = logging.getLogger("mirrorflow.policies")


@dataclass(slots=True)
class Swept:
    """What one sweep did: images by their names, with the reason where they fall short."""

    judged: int = 0
    hidden: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    withdrawn: int = 0  # manifests that no admitted image stands on

    def __bool__(self) -> bool:
        return bool(self.judged or self.hidden or self.kept or self.withdrawn)

    def __str__(self) -> str:
        judged = f"{counted(self.judged, 'stored image')} judged by a changed policy"
        parts = [judged, f"{len(self.hidden):,} hidden"]
        parts += [f"{len(self.kept):,} kept although short of it"] if self.kept else []
        return ", ".join(parts)


def sweep(
    profile: Profile,
    store: Store,
    *,
    entry: RegistryEntry | None = None,
    check_stopped: Callable[[], None] = lambda: None,
) -> Swept:
    """Apply today's policies to the store; with `entry`, to the repositories that it brings images to.

    Where nothing has changed, that is a look at each tag. Raises `TrustBroken`, `StoreError`, and what
    `check_stopped` raises.
    """
    swept = Swept()
    images = StoredImages(profile, store)
    if not images:
        return swept
    for name in sorted({*store.repositories(), *store.hiding()}):
        check_stopped()
        if entry is None or sources(entry, name):
            sweep_repository(images, name, swept, check_stopped)
    if swept:
        log.warning("%s", swept)
    return swept


def sweep_repository(
    images: StoredImages,
    name: RepositoryName,
    swept: Swept,
    check_stopped: Callable[[], None] = lambda: None,
) -> None:
    """`sweep` of one repository; adds what it did to `swept`."""
    _Repository(images, name, swept).sweep(check_stopped)


@dataclass(slots=True)
class _Repository:
    """One repository of a sweep."""

    images: StoredImages
    name: RepositoryName
    swept: Swept

    def sweep(self, check_stopped: Callable[[], None]) -> None:
        due = [each for each in self.images.of(self.name) if each.standing in DUE]
        policies = self._policies()
        if not due and (not policies or policies == last_sweep(self.images.store, self.name)):
            self._tidy()
            return
        refused: list[StoredImage] = []
        for image in due:
            check_stopped()
            if not self._passes(image):
                refused.append(image)
        self._hide({each.tag for each in refused}, by_digest=bool(policies))
        self._tidy()
        if policies:
            note_sweep(self.images.store, self.name, policies)

    def _policies(self) -> str:
        """What says that this repository was swept by today's policies; "" where none holds by digest."""
        found = self.images.by_digest(self.name)
        return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest() if found else ""

    def _passes(self, image: StoredImage) -> bool:
        """Judge it; False: it is to be hidden.

        A verdict is noted with its tag only where the tag stays: after a kill before it is hidden, it is
        judged again.
        """
        self.swept.judged += 1
        policy = self.images.policy_of(image)
        assert policy is not None, "what no policy covers is not judged"
        try:
            verdict = self.images.judge(image)
            assert verdict is not None
            said, admits = verdict.summary, verdict.admits
        except MirrorflowError as error:
            said, admits = f"refused: it cannot be judged: {error}", False
        stays = admits or policy.on_failure == "keep"
        audit = audit_of(self.images.profile.log.audit, by="policyChange", registry=image.entry.name)
        name = ImageName(image.repository, image.tag)
        audit.judged(name, image.upstream_digest, said, policy=image.policy, stays=stays)
        if not stays:
            log.warning("%s: hidden: %s", image.name, said)
            self.swept.hidden[image.name] = said
            return False
        if not admits:
            self.swept.kept[image.name] = said
        record = replace(image.record, verdict=said, judged_by=image.policy)
        self.images.store.repository(self.name).replace_record(image.tag, record)
        return True

    def _hide(self, names: Container[Tag], *, by_digest: bool) -> None:
        store, repository = self.images.store, self.images.store.repository(self.name)
        records = repository.tag_records()
        refused = {
            tag: replace(record, verdict=self.swept.hidden[f"{self.name}:{tag}"])
            for tag, record in records.items()
            if tag in names
        }
        covered = _Covered(repository, strict=by_digest)
        covered.add(
            root
            for tag, record in records.items()
            if tag not in refused and not is_companion_tag(tag)
            for root in record.roots
        )
        left = covered.companions({tag: each for tag, each in records.items() if is_companion_tag(tag)})
        doomed = (
            held_manifests(repository) if by_digest else manifests_below(repository, _roots(refused.values()))
        )
        manifests = [digest for digest in doomed if digest not in covered.digests]
        tags = refused | {
            tag: each for tag, each in left.items() if by_digest or subject_of(tag) in manifests
        }
        if tags or manifests:
            hide(store, self.name, tags, manifests)
            self.swept.withdrawn += len(manifests)

    def _tidy(self) -> None:
        """Forget what is hidden and has been published again, and what `onFailure: delete` gives up now."""
        hidden, visible = self.images.store.hidden(self.name), self.images.store.repository(self.name)
        for tag in hidden.tag_records():
            if visible.tag(tag) is not None:
                hidden.delete_tag(tag)
        for image in self.images.of(self.name, hidden=True):
            policy = self.images.policy_of(image)
            if policy is not None and policy.on_failure == "delete" and not image.entry.is_synced:
                hidden.delete_tag(image.tag)


def may_follow(repository: Repository, digest: Digest) -> bool:
    """Whether it has a format that may accompany an image where a policy keeps anything out."""

    def content(descriptor: Descriptor) -> bytes:
        """Empty for a blob that is not here: then it is no document of its type."""
        return repository.pool_content(descriptor.digest, at_most=LARGEST) or b""

    try:
        descriptor, body = repository.read_manifest(digest)
        return not why_not_allowed(parse_manifest(body, descriptor.media_type), content, STORED_FORMATS)
    except MirrorflowError:
        return False


def _roots(records: Iterable[TagRecord]) -> Iterable[Digest]:
    return (root for record in records for root in record.roots)


@dataclass(slots=True)
class _Covered:
    """The manifests of a repository that admitted images stand on, with the companions that may follow."""

    repository: Repository
    strict: bool
    digests: set[Digest] = field(default_factory=set)

    def add(self, roots: Iterable[Digest]) -> None:
        queue = list(roots)
        while queue:
            digest = queue.pop()
            manifest = None if digest in self.digests else self._read(digest)
            if manifest is None:
                continue
            self.digests.add(digest)
            queue += [child.digest for child in manifest.manifests]
            referrers = (each.digest for each in self.repository.referrers(digest))
            queue += [each for each in referrers if self._may_follow(each)]

    def companions(self, tags: dict[Tag, TagRecord]) -> dict[Tag, TagRecord]:
        """Add what stands under companion tags of what is covered; the tags that stay uncovered."""
        left = dict(tags)
        while True:
            more = [
                tag
                for tag, record in left.items()
                if subject_of(tag) in self.digests and self._may_follow(record.digest)
            ]
            if not more:
                return left
            self.add(_roots(left.pop(tag) for tag in more))

    def _may_follow(self, digest: Digest) -> bool:
        return may_follow(self.repository, digest) if self.strict else self._read(digest) is not None

    def _read(self, digest: Digest) -> Manifest | None:
        try:
            descriptor, body = self.repository.read_manifest(digest)
            return parse_manifest(body, descriptor.media_type)
        except MirrorflowError:
            return None
