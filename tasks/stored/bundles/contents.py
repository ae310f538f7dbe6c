"""What a bundle and the store together have of an image, before anything of it is in the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from registry_server.bundles.errors import BundleError, BundleInvalid
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ManifestInvalid, MirrorflowError
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, parse_manifest
from tasks.manifests.manifest_tree import MAX_DEPTH, MAX_MANIFESTS
from tasks.trust.errors import Refused, in_short
from tasks.trust.sources import StoreSource

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from registry_server.bundles.document import BundledImage
    from registry_server.bundles.reading import Bundle
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.store import Store

_MOST_REFERRERS: Final = 10_000  # of one image


class ImageIncomplete(BundleError):
    """An image needs what neither the bundle nor the store has."""


@dataclass(frozen=True, slots=True)
class ImageTree:
    """`manifests` with their digests, children before what lists them; `blobs` that they need.

    `absent`: entries of indexes that are not in the bundle.
    """

    manifests: dict[Digest, Manifest]
    blobs: dict[Digest, Descriptor]
    absent: frozenset[Digest]


@dataclass(slots=True)
class BundleContents:
    """The manifests of a bundle, each read once at most for what is asked of it."""

    bundle: Bundle
    _referrers: dict[tuple[RepositoryName, Digest], list[Digest]] = field(default_factory=dict)
    _tags: dict[tuple[RepositoryName, str], BundledImage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `BundleError`, `ManifestInvalid`."""
        document = self.bundle.document
        self._tags = {(each.repository, each.tag): each for each in document.images}
        for name, digests in document.referrers.items():
            for digest in digests:
                manifest = self.manifest(digest)
                if manifest is None or manifest.subject is None:
                    raise BundleInvalid(f"bundle.json lists {digest} as a referrer, which it is not")
                self._referrers.setdefault((name, manifest.subject.digest), []).append(digest)

    def manifest(self, digest: Digest) -> Manifest | None:
        """None for what is no manifest of the bundle. Raises `BundleDamaged`, `ManifestInvalid`."""
        place = self.bundle.document.places.get(digest)
        if place is None or not (kind := self.bundle.document.content(place).media_type):
            return None
        body = self.bundle.small(digest, MAX_MANIFEST_BYTES)
        assert body is not None, "it has a place in the bundle"
        return parse_manifest(body, kind)

    def tagged(self, repository: RepositoryName, tag: str) -> BundledImage | None:
        return self._tags.get((repository, tag))

    def referrers(self, repository: RepositoryName, subject: Digest) -> list[Digest]:
        return self._referrers.get((repository, subject), [])

    def tree(self, roots: Sequence[Digest]) -> ImageTree:
        """What these manifests stand on. Raises `ImageIncomplete`, `ManifestInvalid`, `BundleDamaged`."""
        walk = _Walk(self)
        for root in roots:
            if not walk.visit(root, 0):
                raise ImageIncomplete(f"its manifest {root} is not in the bundle")
        return ImageTree(walk.manifests, walk.blobs, frozenset(walk.absent))


@dataclass(slots=True)
class _Walk:
    contents: BundleContents
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    absent: set[Digest] = field(default_factory=set)
    _seen: set[Digest] = field(default_factory=set)

    def visit(self, digest: Digest, depth: int) -> bool:
        """Whether the bundle has a manifest with this digest."""
        if digest in self._seen:
            return True
        if depth > MAX_DEPTH or len(self._seen) >= MAX_MANIFESTS:
            raise ManifestInvalid(f"its manifests are deeper than {MAX_DEPTH}, or more than {MAX_MANIFESTS}")
        manifest = self.contents.manifest(digest)
        if manifest is None:
            return False
        self._seen.add(digest)
        for child in manifest.manifests:
            if not self.visit(child.digest, depth + 1):
                self._visit_blob(child)
        self.blobs.update((blob.digest, blob) for blob in manifest.blobs)
        foreign = (blob for blob in manifest.layers if blob.is_foreign)
        self.blobs.update((blob.digest, blob) for blob in foreign if self.contents.bundle.holds(blob.digest))
        self.manifests[digest] = manifest
        return True

    def _visit_blob(self, child: Descriptor) -> None:
        """An entry of an index that is no manifest here: a blob (BuildKit's caches), or not there."""
        if child.media_type not in media_types.MANIFESTS and not child.is_foreign:
            self.blobs[child.digest] = child
        else:
            self.absent.add(child.digest)


@dataclass(frozen=True, slots=True)
class BundleSource:
    """Where the signatures of an image are: in one repository, of the bundle and of the store as one."""

    contents: BundleContents
    store: Store
    repository: RepositoryName

    def referrers(self, digest: Digest) -> Sequence[Descriptor] | None:
        found = {}
        for each in self.contents.referrers(self.repository, digest)[:_MOST_REFERRERS]:
            manifest = self.contents.manifest(each)
            assert manifest is not None, "it was read when the bundle was opened"
            found[each] = manifest.descriptor(each.algorithm)
        stored = self._stored.referrers(digest) or ()
        return list({each.digest: each for each in (*found.values(), *stored)}.values())

    def manifest(self, reference: str) -> bytes | None:
        """Raises `Refused` for one that cannot be read."""
        try:
            tagged = self.contents.tagged(self.repository, reference)
            digest = tagged.record.digest if tagged else Digest(reference) if ":" in reference else None
            found = self.contents.manifest(digest) if digest else None
        except MirrorflowError as error:
            raise Refused(in_short(error)) from error
        return found.body if found else self._stored.manifest(reference)

    def blob(self, descriptor: Descriptor) -> bytes | None:
        """Raises `Refused` for one that has another size, or is damaged."""
        try:
            found = self.contents.bundle.small(descriptor.digest, descriptor.size)
        except BundleError as error:
            raise Refused(in_short(error)) from error
        if found is not None:
            return found
        # What the other side knew to be in the store may be in any repository of it.
        repository = self.store.repository(self.repository)
        return repository.pool_content(descriptor.digest, at_most=descriptor.size)

    def tags(self) -> Collection[str] | None:
        return None

    @property
    def _stored(self) -> StoreSource:
        return StoreSource(self.store.repository(self.repository), self.store.hidden(self.repository))
