"""Reading the tree of manifests under one digest, and saying what has to be stored for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.errors import ManifestInvalid, SizeMismatch
from registry_server.oci.manifest import Manifest, parse_manifest
from tasks.images import ImagePlan
from tasks.platforms import wanted_children
from tasks.upstream.errors import UpstreamNotFound, UpstreamSchema1

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Platform
    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository
    from tasks.images import Image
    from tasks.run import MirrorRun

# Far beyond any real image; a hostile tree ends here (zot once walked 2^N nodes).
_MAX_DEPTH: Final = 16
_MAX_MANIFESTS: Final = 4096
_SURELY_BLOBS: Final = (".layer.", ".rootfs.", "buildkit")


class ManifestSource(Protocol):
    """Where the walk gets a manifest from."""

    def read(self, descriptor: Descriptor) -> Manifest:
        """The manifest behind `descriptor` (a negative size is not known). Raises like `plan_image`."""
        ...


@dataclass(slots=True)
class _Tree:
    """Collects while the tree is walked; children come before what refers to them."""

    source: ManifestSource
    platforms: tuple[Platform, ...]
    manifests: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    sparse: list[Digest] = field(default_factory=list)

    def visit(self, descriptor: Descriptor, depth: int = 0) -> None:
        """Read one manifest and everything below it. A digest met twice, or in a circle, counts once."""
        if descriptor.digest in self.manifests:
            return
        if depth > _MAX_DEPTH or len(self.manifests) >= _MAX_MANIFESTS:
            raise ManifestInvalid(
                f"the tree of manifests above {descriptor.digest.short} is deeper than {_MAX_DEPTH} "
                f"or has more than {_MAX_MANIFESTS} manifests; this is not an image"
            )
        manifest = self.source.read(descriptor)
        self._visit_children(manifest, depth)
        self.blobs.update((blob.digest, blob) for blob in manifest.blobs)
        self.manifests[descriptor.digest] = Descriptor(
            manifest.media_type, descriptor.digest, len(manifest.body)
        )

    def _visit_children(self, manifest: Manifest, depth: int) -> None:
        wanted = wanted_children(manifest, self.platforms)
        kept = {child.digest for child in wanted}
        self.sparse.extend(child.digest for child in manifest.manifests if child.digest not in kept)
        for child in wanted:
            if child.media_type in media_types.MANIFESTS:
                self.visit(child, depth + 1)
            else:
                self._visit_unknown(child, depth)

    def _visit_unknown(self, child: Descriptor, depth: int) -> None:
        """An entry of an index may be a blob (BuildKit's caches list layers): try both."""
        if any(part in child.media_type for part in _SURELY_BLOBS):
            self.blobs[child.digest] = child
            return
        try:
            self.visit(child, depth + 1)
        except (UpstreamNotFound, UpstreamSchema1, ManifestInvalid):
            self.blobs[child.digest] = child


@dataclass(frozen=True, slots=True)
class _Keeping:
    """From the pool when any image brought it before, else from the upstream, and into the pool."""

    run: MirrorRun
    image: Image
    repository: Repository

    def read(self, descriptor: Descriptor) -> Manifest:
        # Images that are made ready at the same time share children: each manifest is asked for once.
        with self.run.manifests.holding(descriptor.digest):
            self.run.check_stopped()
            if self.repository.adopt_blob(descriptor.digest):
                body = self.repository.find_blob(descriptor.digest).path.read_bytes()
                return parsed(descriptor, body, None)
            return self._fetch(descriptor)

    def _fetch(self, descriptor: Descriptor) -> Manifest:
        fetched = self.run.upstream.manifest(self.image.source, descriptor.digest)
        manifest = parsed(descriptor, fetched.body, fetched.media_type)
        stored = Descriptor(manifest.media_type, descriptor.digest, len(fetched.body))
        self.repository.put_blob(stored, fetched.body)
        return manifest


def parsed(descriptor: Descriptor, body: bytes, media_type: str | None) -> Manifest:
    """Validate a manifest against the descriptor that led to it; its type beats the Content-Type's."""
    # A negative size stands for "not known": the root, of which only a HEAD has been seen.
    if descriptor.size >= 0 and len(body) != descriptor.size:
        raise SizeMismatch(expected=descriptor.size, actual=len(body))
    return parse_manifest(body, descriptor.media_type or media_type)


def walk(image: Image, source: ManifestSource) -> ImagePlan:
    """Walk the manifest tree of an image. Raises what `plan_image` raises."""
    tree = _Tree(source, image.platforms)
    tree.visit(Descriptor(image.media_type, image.digest, -1))
    kept = set(tree.manifests) | set(tree.blobs)
    return ImagePlan(
        image,
        tuple(tree.manifests.values()),
        tuple(tree.blobs.values()),
        tuple(dict.fromkeys(digest for digest in tree.sparse if digest not in kept)),
    )


def plan_image(run: MirrorRun, image: Image) -> ImagePlan:
    """Fetch and validate the manifest tree; bodies go to the pool, where no tag shows them yet.

    Raises `ContentError`, `UpstreamError` (also `UpstreamSchema1`), `StoreError`, `Stopped`.
    """
    return walk(image, _Keeping(run, image, run.store.repository(image.local)))
