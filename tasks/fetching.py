"""Reading the tree of manifests under one digest, and saying what has to be stored for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.errors import ManifestInvalid, SizeMismatch
from registry_server.oci.manifest import Manifest, parse_manifest
from tasks.images import ImagePlan
from tasks.platforms import wanted_children
from tasks.upstream.errors import UpstreamNotFound, UpstreamSchema1

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository
    from tasks.images import Image
    from tasks.run import MirrorRun

# Far beyond any real image; a hostile tree ends here (zot once walked 2^N nodes).
_MAX_DEPTH: Final = 16
_MAX_MANIFESTS: Final = 4096


@dataclass(slots=True)
class _Tree:
    """Collects while the tree is walked; children come before what refers to them."""

    run: MirrorRun
    image: Image
    repository: Repository
    manifests: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    sparse: list[Digest] = field(default_factory=list)

    def visit(self, descriptor: Descriptor, depth: int = 0) -> None:
        """Fetch one manifest and everything below it. A digest met twice, or in a circle, counts once."""
        if descriptor.digest in self.manifests:
            return
        if depth > _MAX_DEPTH or len(self.manifests) >= _MAX_MANIFESTS:
            raise ManifestInvalid(
                f"the tree of manifests under {self.image.digest.short} is deeper than {_MAX_DEPTH} "
                f"or larger than {_MAX_MANIFESTS}; this is not an image"
            )
        self.run.check_stopped()
        manifest = self._read(descriptor)
        self._visit_children(manifest, depth)
        self.blobs.update((blob.digest, blob) for blob in manifest.blobs)
        self.manifests[descriptor.digest] = Descriptor(
            manifest.media_type, descriptor.digest, len(manifest.body)
        )

    def _visit_children(self, manifest: Manifest, depth: int) -> None:
        wanted = wanted_children(manifest, self.image.platforms)
        kept = {child.digest for child in wanted}
        self.sparse.extend(child.digest for child in manifest.manifests if child.digest not in kept)
        for child in wanted:
            if child.media_type in media_types.MANIFESTS:
                self.visit(child, depth + 1)
            else:
                self._visit_unknown(child, depth)

    def _visit_unknown(self, child: Descriptor, depth: int) -> None:
        """An entry of an index may be a blob (BuildKit's caches list layers): try both."""
        if ".layer." in child.media_type or ".rootfs." in child.media_type or "buildkit" in child.media_type:
            self.blobs[child.digest] = child
            return
        try:
            self.visit(child, depth + 1)
        except (UpstreamNotFound, UpstreamSchema1, ManifestInvalid):
            self.blobs[child.digest] = child

    def _read(self, descriptor: Descriptor) -> Manifest:
        """From the pool when any image brought it before, else from the upstream, by digest."""
        if self.repository.adopt_blob(descriptor.digest):
            body = self.repository.find_blob(descriptor.digest).path.read_bytes()
            _check_size(descriptor, body)
            return parse_manifest(body, descriptor.media_type or None)
        fetched = self.run.upstream.manifest(self.image.source, descriptor.digest)
        _check_size(descriptor, fetched.body)
        manifest = parse_manifest(fetched.body, descriptor.media_type or fetched.media_type)
        self.repository.put_blob(
            Descriptor(manifest.media_type, descriptor.digest, len(fetched.body)), fetched.body
        )
        return manifest


def _check_size(descriptor: Descriptor, body: bytes) -> None:
    # A negative size stands for "not known": the root, of which only a HEAD has been seen.
    if descriptor.size >= 0 and len(body) != descriptor.size:
        raise SizeMismatch(expected=descriptor.size, actual=len(body))


def plan_image(run: MirrorRun, image: Image) -> ImagePlan:
    """Fetch and validate the manifest tree; bodies go to the pool, where no tag shows them yet.

    Raises `ContentError`, `UpstreamError` (also `UpstreamSchema1`), `StoreError`, `Stopped`.
    """
    tree = _Tree(run, image, run.store.repository(image.local))
    tree.visit(Descriptor(image.media_type, image.digest, -1))
    kept = set(tree.manifests) | set(tree.blobs)
    return ImagePlan(
        image,
        tuple(tree.manifests.values()),
        tuple(tree.blobs.values()),
        tuple(dict.fromkeys(digest for digest in tree.sparse if digest not in kept)),
    )
