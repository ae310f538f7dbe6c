"""Whether an image of a bundle may come in: under which rule of the profile, and by which policy.

It is judged before anything of it is in the store, from the bundle and the store alone. What the other side
made of it counts for nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from profiles.image_parts import wanted_children
from profiles.matching import has_min_age, sources
from registry_server.bundles.errors import BundleError
from registry_server.oci import conversion, forms
from registry_server.oci.companion_tags import may_be_referrers_list
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from tasks.run.tag_conflicts import conflicting_source, takes
from tasks.run.values import NO_POLICY
from tasks.stored.bundles.contents import BundleSource
from tasks.stored.images import StoredImage, StoredImages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.bundles.document import BundledImage
    from registry_server.oci.forms import Form
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import Origin, TagRecord
    from registry_server.store.store import Store
    from tasks.stored.bundles.contents import BundleContents, ImageTree
    from tasks.trust.policy import Policy
    from tasks.trust.verdict import Verdict


class ImageRefused(BundleError):
    """An image does not come in, and why."""


@dataclass(frozen=True, slots=True)
class AdmittedImage:
    """What its tag becomes. `strict`: only known formats may follow it. `verdict`: None, no policy covers it.

    `source` is `host/repository`, "" for an image that was pushed.
    """

    record: TagRecord
    strict: bool
    verdict: Verdict | None = None
    source: str = ""


def descriptor_of(image: BundledImage, tree: ImageTree) -> Descriptor:
    """What the manifest of the tag is: its type and size as the manifest has them, not as the record says."""
    digest = image.record.digest
    return tree.manifests[digest].descriptor(digest.algorithm)


@dataclass(slots=True)
class BundleAdmission:
    """Judges the images of one bundle by one profile."""

    profile: Profile
    store: Store
    contents: BundleContents
    _images: StoredImages = field(init=False)

    def __post_init__(self) -> None:
        self._images = StoredImages(self.profile, self.store)

    def admit(self, image: BundledImage, tree: ImageTree) -> AdmittedImage:
        """Raises `ImageRefused`, `TrustBroken`, `StoreError`, `BundleDamaged`."""
        named = descriptor_of(image, tree)
        record = replace(
            image.record,
            media_type=named.media_type,
            size=named.size,
            pushed=time.time(),
            verdict="",
            judged_by="",
        )
        missing = tree.absent - set(record.sparse)
        if missing:
            raise ImageRefused(f"the bundle lacks {min(missing)}, which its index lists")
        if record.origin is None:
            return self._pushed(image.repository, record)
        return self._mirrored(image, record, record.origin)

    @property
    def _takes_pushed(self) -> bool:
        return self.profile.bundles is not None and self.profile.bundles.pushed == "accept"

    def companion_origin(self, image: BundledImage) -> Origin | None:
        """Where a companion tag comes from that follows an image which is here already.

        Invariant 5: it replaces no tag that somebody else has set. Raises `ImageRefused`.
        """
        repository, origin = self.store.repository(image.repository), image.record.origin
        held = repository.tag(image.tag)
        if origin is None:
            if held is not None and (held.origin is not None or not self._takes_pushed):
                raise ImageRefused("a client pushed it on the other side, and the tag is here already")
            return None
        entry = self.entry_for(image.repository, origin)
        conflict = conflicting_source(self.profile.sync, entry, origin.repository, repository, image.tag)
        if conflict:
            raise ImageRefused(f"the tag {conflict}")
        return replace(origin, registry=entry.name)

    def _pushed(self, name: RepositoryName, record: TagRecord) -> AdmittedImage:
        if not self._takes_pushed:
            raise ImageRefused("a client pushed it on the other side; 'bundles.pushed: accept' lets it in")
        for entry in self.profile.sync.registries:
            if entry.content and sources(entry, name):
                raise ImageRefused(f"a client pushed it, and {entry.name!r} brings what is under this name")
        return AdmittedImage(record, strict=False)

    def _mirrored(self, image: BundledImage, record: TagRecord, origin: Origin) -> AdmittedImage:
        entry = self.entry_for(image.repository, origin, image.tag)
        record = replace(record, origin=replace(origin, registry=entry.name, on_demand=False))
        repository = self.store.repository(image.repository)
        conflict = conflicting_source(self.profile.sync, entry, origin.repository, repository, image.tag)
        if conflict:
            raise ImageRefused(f"the tag {conflict}")
        self._check_origin(record, origin)
        stored = self._images.described(image.repository, image.tag, record)
        assert stored is not None, "an entry of the profile brings it"
        policy = self._images.policy_of(stored)
        if policy is None:
            admitted = replace(record, verdict=NO_POLICY)
            return AdmittedImage(admitted, has_min_age(entry), source=stored.source)
        verdict = self._judge(stored, policy)
        if not verdict.admits:
            raise ImageRefused("; ".join((*verdict.reasons, *verdict.findings)))
        admitted = replace(record, verdict=verdict.summary, judged_by=stored.policy)
        return AdmittedImage(admitted, policy.keeps_out or has_min_age(entry), verdict, stored.source)

    def entry_for(self, name: RepositoryName, origin: Origin, tag: Tag | None = None) -> RegistryEntry:
        """Invariant 5: the entry under whose rules this repository lands here, and the tag, where it is not
        one of a companion. Raises `ImageRefused`."""
        entries = sorted(self.profile.sync.registries, key=lambda each: each.name != origin.registry)
        found = [
            entry
            for entry in entries
            if any(source == origin.repository for _, source in sources(entry, name))
        ]
        what = f"{origin.repository} of {origin.registry}"
        if not found:
            raise ImageRefused(
                f"no registry entry of the profile puts {what} under this name; add a content "
                "rule that does, or leave it out of `bundle create`"
            )
        for entry in found:
            if tag is None or may_be_referrers_list(tag) or takes(entry, origin.repository, name, tag):
                return entry
        raise ImageRefused(f"no content rule of the profile takes this tag of {what}")

    def _check_origin(self, record: TagRecord, origin: Origin) -> None:
        """Signatures are for the upstream's digest: what is served has to be that, or to be made of it."""
        if not origin.form:
            if origin.digest != record.digest:
                raise ImageRefused(f"it is said to be {origin.digest}, and is {record.digest}")
            return
        if origin.form.version != forms.VERSION:
            raise ImageRefused(
                "it was converted by another version of mirrorflow; install the same on both sides"
            )
        if _Converting(self.contents, origin.form).converted(origin.digest) != record.digest:
            raise ImageRefused(f"it is said to be converted from {origin.digest}, and is not")

    def _judge(self, image: StoredImage, policy: Policy) -> Verdict:
        from tasks.trust.judging import judge_image

        place = self._images.signatures_place(image) or image.repository
        manifest = self.contents.manifest(image.upstream_digest)
        if manifest is None:
            raise ImageRefused(f"the manifest {image.upstream_digest} that was signed is not in the bundle")
        return judge_image(
            image.upstream_digest,
            manifest.media_type,
            BundleSource(self.contents, self.store, place),
            policy,
            children=self._children,
            reference=f"{image.source}:{image.tag}",
        )

    def _children(self, parent: Descriptor) -> Iterable[Descriptor]:
        """The manifests that an index lists and that are in the bundle."""
        index = self.contents.manifest(parent.digest)
        found = []
        for child in index.manifests if index else ():
            manifest = self.contents.manifest(child.digest)
            if manifest is not None:
                found.append(replace(child, media_type=manifest.media_type))
        return found


@dataclass(slots=True)
class _Converting:
    """What the mirror would have made of an image, from the manifests of the bundle.

    As `tasks/manifests/manifest_tree.py` does it: children first, and what a child refers to before it.
    """

    contents: BundleContents
    form: Form
    _renamed: dict[Digest, Descriptor] = field(default_factory=dict)
    _expected: dict[Digest, Descriptor] = field(default_factory=dict)
    _seen: set[Digest] = field(default_factory=set)

    def converted(self, digest: Digest) -> Digest:
        """Raises `ManifestInvalid`, `BundleDamaged`."""
        self._visit(digest)
        new = self._renamed.get(digest)
        return new.digest if new else digest

    def _visit(self, digest: Digest) -> None:
        manifest = None if digest in self._seen else self.contents.manifest(digest)
        self._seen.add(digest)
        if manifest is None:
            return
        self._expected |= {child.digest: child for child in manifest.manifests}
        for child in manifest.manifests:
            self._visit(child.digest)
        if manifest.subject is not None and manifest.subject.digest in self._expected:
            self._visit(manifest.subject.digest)
        kept = wanted_children(manifest, self.form) if self.form.rewrite else manifest.manifests
        left_out = {child.digest for child in manifest.manifests} - {child.digest for child in kept}
        found = conversion.changed(manifest, oci=self.form.oci, renamed=self._renamed, left_out=left_out)
        if found is not manifest:
            made = Digest.of(found.body, digest.algorithm)
            self._renamed[digest] = Descriptor(found.media_type, made, len(found.body))
