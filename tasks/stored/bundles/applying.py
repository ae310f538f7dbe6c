"""Applying a bundle: each image is judged, brought in whole, and only then shown under its tag.

Nothing has to be undone: killed at any time, what is here is content that no tag needs yet, and the next call
with the same bundle goes on. Blobs that are here are not written again, and one that was cut off goes on
where it stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from registry_server.bundles.base_check import check_base
from registry_server.bundles.errors import BundleError
from registry_server.bundles.state import ROLE, AppliedBundle, NotTaken, note_applied
from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.errors import ContentError, DigestMismatch, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.store.errors import ClosureIncomplete, TagMoved, translated
from registry_server.store.records import Origin, TagRecord
from tasks.companions.formats import LARGEST, why_not_allowed
from tasks.manifests.verdict_record import CONFIG, EMPTY, is_own, layer_of, manifest_of, record_of
from tasks.stored.bundles.admission import BundleAdmission, ImageRefused
from tasks.stored.bundles.contents import BundleContents, ImageIncomplete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiles.model.profile import Profile
    from registry_server.bundles.document import BundledImage
    from registry_server.bundles.reading import Bundle
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.stored.bundles.admission import AdmittedImage
    from tasks.stored.bundles.contents import ImageTree

_MOST_STEPS: Final = 10_000  # companions of one image
# What is wrong with one image alone; an error of the store ends the whole.
_OF_THE_IMAGE: Final = (BundleError, ContentError, NotFound, ClosureIncomplete)


@dataclass(frozen=True, slots=True)
class Applying:
    """Who applies which bundle, and by when. `clock` gives the time as bundles have it."""

    by: str
    signed_by: str
    clock: Callable[[], str]
    older: bool = False
    told: Callable[[str, str], None] = lambda _image, _reason: None


def apply_bundle(profile: Profile, store: Store, bundle: Bundle, applying: Applying) -> AppliedBundle:
    """Bring in what the profile lets in; images that it does not are in the answer, with the reason.

    The bundle was verified. Raises `WrongBase`, `BundleError`, `TrustBroken`, `StoreLocked` when another
    process applies one, `StoreError`.
    """
    with store.claim(ROLE), store.lease():
        check_base(store, bundle, older=applying.older)
        document = bundle.document
        applied = AppliedBundle(
            bundle=bundle.digest,
            created=document.created,
            source=document.store,
            signed_by=applying.signed_by,
            begun=applying.clock(),
            by=applying.by,
        )
        note_applied(store, applied)
        work = _Work(profile, store, bundle, applying)
        work.run()
        applied = replace(
            applied,
            finished=applying.clock(),
            applied=work.applied,
            refused=tuple(work.refused),
            verdicts=work.verdicts,
        )
        note_applied(store, applied)
    return applied


@dataclass(slots=True)
class _Work:
    profile: Profile
    store: Store
    bundle: Bundle
    applying: Applying
    applied: dict[str, str] = field(default_factory=dict)
    refused: list[NotTaken] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)
    contents: BundleContents = field(init=False)
    _admission: BundleAdmission = field(init=False)

    def __post_init__(self) -> None:
        self.contents = BundleContents(self.bundle)
        self._admission = BundleAdmission(self.profile, self.store, self.contents)

    def run(self) -> None:
        images = self.bundle.document.images
        for image in images:
            if not is_companion_tag(image.tag):
                self._each(image, self._image)
        for image in images:
            if is_companion_tag(image.tag) and image.name not in self.applied:
                self._each(image, self._late_companion)

    def _each(self, image: BundledImage, bring: Callable[[BundledImage], None]) -> None:
        reason = ""
        try:
            bring(image)
        except _OF_THE_IMAGE as error:
            reason = str(error)
            self.refused.append(NotTaken(image.name, image.record.digest, image.members, reason))
        else:
            self.applied[image.name] = image.record.digest
        self.applying.told(image.name, reason)

    def _image(self, image: BundledImage) -> None:
        """Judged first; then blobs, manifests, companions, and the tag last (invariants 1 and 4)."""
        tree = self.contents.tree(image.record.roots)
        repository = self.store.repository(image.repository)
        before = repository.tag(image.tag)
        admitted = self._admission.admit(image, tree)
        self._bring(repository, tree)
        self._companions(repository, image, tree, admitted)
        self._record_verdict(repository, admitted)
        self.store.sync()
        try:
            repository.put_tag(
                image.tag, admitted.record, only_if=lambda held: _named(held) == _named(before)
            )
        except TagMoved as error:  # what was admitted was for what it named before (invariant 5)
            raise ImageRefused("somebody else has moved the tag meanwhile; apply the bundle again") from error
        self.verdicts[image.name] = admitted.record.verdict

    def _bring(self, repository: Repository, tree: ImageTree) -> None:
        for blob in tree.blobs.values():
            self._blob(repository, blob)
        for digest, manifest in tree.manifests.items():
            repository.put_manifest(manifest, digest)

    def _blob(self, repository: Repository, blob: Descriptor) -> None:
        """From the pool, else from the bundle, else from another storage root. Raises `ImageIncomplete`."""
        if repository.adopt_blob(blob.digest):
            return
        if not self.bundle.holds(blob.digest):
            self._from_elsewhere(repository, blob)
            return
        if not self._receive(repository, blob):
            self._receive(repository, blob)

    def _receive(self, repository: Repository, blob: Descriptor) -> bool:
        """Whether the blob is here. False: what an earlier writer left may be what was wrong; it is gone."""
        with repository.receive_blob(blob) as incoming:
            if incoming.complete:
                return True
            resumed = min(incoming.offset, self.bundle.size(blob.digest))
            for piece in self.bundle.stream(blob.digest, resumed):
                incoming.write(piece)
            try:
                incoming.commit()
            except DigestMismatch:
                if not resumed:
                    raise
                return False
        return True

    @translated
    def _from_elsewhere(self, repository: Repository, blob: Descriptor) -> None:
        """Repositories in different storage roots share no content."""
        holder = self.store.holder(blob.digest)
        if holder is None:
            raise ImageIncomplete(
                f"it needs {blob.digest}, which neither the bundle nor this store has: take a new inventory, "
                "and create the bundle for that"
            )
        held = self.store.repository(holder).find_blob(blob.digest)
        with repository.receive_blob(blob) as incoming:
            if not incoming.complete:
                for piece in held.pieces(incoming.offset):
                    incoming.write(piece)
            incoming.commit()

    def _companions(
        self, repository: Repository, image: BundledImage, tree: ImageTree, admitted: AdmittedImage
    ) -> None:
        """What refers to any manifest of the image, and what stands under a companion tag of one.

        Where a policy keeps anything out, only known formats follow, as from an upstream.
        """
        queue, looked, brought = list(tree.manifests), 0, set(tree.manifests)
        while queue and looked < _MOST_STEPS:
            subject = queue.pop()
            tags = list(self._companion_tags(image, subject))
            digests = (
                *self.contents.referrers(image.repository, subject),
                *(each.record.digest for each in tags),
            )
            for digest in digests:
                looked += 1
                if digest not in brought and self._companion(repository, digest, strict=admitted.strict):
                    brought.add(digest)
                    queue.append(digest)
            for tag in tags:
                if tag.record.digest in brought:
                    self._tag_companion(repository, tag, admitted)

    def _companion_tags(self, image: BundledImage, subject: Digest) -> Iterator[BundledImage]:
        stem = subject.replace(":", "-", 1)
        names = (f"{stem}.{kind}" for kind in ("sig", "att", "sbom"))
        found = (self.contents.tagged(image.repository, name) for name in names)
        return (each for each in found if each is not None and each.name not in self.applied)

    def _companion(self, repository: Repository, digest: Digest, *, strict: bool) -> bool:
        """Bring one in, without a tag; False: it does not follow the image."""
        tree = self.contents.tree([digest])
        manifest = tree.manifests[digest]
        if is_own(manifest) or (strict and self._why_not(repository, manifest)):
            return False
        self._bring(repository, tree)
        return True

    def _why_not(self, repository: Repository, manifest: Manifest) -> str:
        def read(descriptor: Descriptor) -> bytes:
            found = self.bundle.small(descriptor.digest, LARGEST)
            if found is None:
                found = repository.pool_content(descriptor.digest, at_most=LARGEST)
            if found is None or len(found) != descriptor.size:
                raise ImageIncomplete(f"its companion needs {descriptor.digest}, which is not there")
            return found

        return why_not_allowed(manifest, read)

    def _tag_companion(self, repository: Repository, tag: BundledImage, admitted: AdmittedImage) -> None:
        digest, image = tag.record.digest, admitted.record.origin
        origin = Origin(image.registry, image.repository, digest) if image else None
        self._put_companion_tag(repository, tag, origin)
        self.applied[tag.name] = digest

    def _put_companion_tag(self, repository: Repository, tag: BundledImage, origin: Origin | None) -> None:
        """With the type and the size that its manifest has, whatever the bundle's record says."""
        found = repository.find_manifest(tag.record.digest).descriptor
        self.store.sync()
        record = TagRecord(found.digest, found.media_type, found.size, time.time(), origin)
        repository.put_tag(tag.tag, record)

    def _late_companion(self, image: BundledImage) -> None:
        """A signature that was added to an image that is here already, or of one that was refused."""
        repository = self.store.repository(image.repository)
        subject = subject_of(image.tag)
        assert subject is not None, "it is a companion tag"
        repository.find_manifest(subject)
        origin = self._admission.companion_origin(image)
        if not self._companion(repository, image.record.digest, strict=True):
            raise ImageRefused("it is of no format that may follow an image here")
        self._put_companion_tag(repository, image, origin)

    def _record_verdict(self, repository: Repository, admitted: AdmittedImage) -> None:
        """`verify.recordVerdicts`: as a run of the mirror does it."""
        verify = self.profile.verify
        if admitted.verdict is None or verify is None or not verify.record_verdicts:
            return
        content = record_of(admitted.verdict, admitted.record.upstream_digest, admitted.source)
        repository.put_blob(CONFIG, EMPTY)
        repository.put_blob(layer_of(content), content)
        repository.put_manifest(parse_manifest(manifest_of(content, admitted.record.descriptor)))


def _named(record: TagRecord | None) -> object:
    """What a verdict noted meanwhile does not change."""
    return record and (record.roots, record.origin)
