"""Reading the tree of manifests under one digest, and saying what has to be stored for it, in which form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from profiles.image_parts import is_surely_blob, wanted_children
from registry_server.oci import conversion, media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ContentError, ManifestInvalid
from registry_server.oci.manifest import MAX_MANIFEST_BYTES
from tasks.manifests.reading import blamed, fetch, held_body, parsed
from tasks.run.errors import NoPlatform, WrongContent
from tasks.run.values import ImagePlan
from tasks.upstream.errors import UpstreamNotFound, Where

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiles.image_parts import ImageParts
    from registry_server.oci.forms import Form
    from registry_server.oci.manifest import Manifest
    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image

# Far beyond any real image; a hostile tree ends here (zot once walked 2^N nodes).
MAX_DEPTH: Final = 16
MAX_MANIFESTS: Final = 4096


class ManifestSource(Protocol):
    """Where the walk gets a manifest from."""

    def read(self, descriptor: Descriptor) -> Manifest:
        """The manifest behind `descriptor` (a negative size is not known). Raises like `plan_image`."""
        ...

    def peek(self, descriptor: Descriptor) -> Manifest:
        """The same, for a manifest that may yet be refused: nothing is stored."""
        ...


def _forget(_descriptor: Descriptor, _body: bytes) -> None:
    """For who only wants to know what would be made."""


@dataclass(slots=True)
class _Tree:
    """Collects while the tree is walked; children come before what refers to them.

    `converted` is what was made of `manifests` where the form is another one, `renamed` from the digest of
    the one to the other; `keep` is given its bodies, so that none of them stays in memory.
    """

    source: ManifestSource
    parts: ImageParts
    form: Form
    keep: Callable[[Descriptor, bytes], None] = _forget
    manifests: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    sparse: list[Digest] = field(default_factory=list)
    gone: list[Digest] = field(default_factory=list)
    converted: dict[Digest, Descriptor] = field(default_factory=dict)
    renamed: dict[Digest, Descriptor] = field(default_factory=dict)
    expected: dict[Digest, Descriptor] = field(default_factory=dict)

    def visit(self, descriptor: Descriptor, depth: int = 0) -> None:
        """Read one manifest and everything below it. A digest that is met twice counts once."""
        if descriptor.digest not in self.manifests:
            self._check_bounds(depth)
            self._enter(descriptor, self.source.read(descriptor), depth)

    def _check_bounds(self, depth: int) -> None:
        if depth > MAX_DEPTH or len(self.manifests) >= MAX_MANIFESTS:
            raise ManifestInvalid(
                f"the tree of manifests is deeper than {MAX_DEPTH} or has more than {MAX_MANIFESTS} "
                "manifests; this is not an image"
            )

    def _enter(self, descriptor: Descriptor, manifest: Manifest, depth: int) -> None:
        self._visit_children(manifest, depth)
        blobs = manifest.blobs_with(foreign=self.parts.foreign)
        self.blobs.update((blob.digest, blob) for blob in blobs)
        self.manifests[descriptor.digest] = Descriptor(
            manifest.media_type, descriptor.digest, len(manifest.body)
        )
        if self.form:
            self._convert(descriptor, manifest, depth)

    def _convert(self, descriptor: Descriptor, manifest: Manifest, depth: int) -> None:
        subject = manifest.subject and self.expected.get(manifest.subject.digest)
        if subject is not None:
            self.visit(subject, depth + 1)  # its new name comes first
        kept = wanted_children(manifest, self.form) if self.form.rewrite else manifest.manifests
        left_out = {child.digest for child in manifest.manifests} - {child.digest for child in kept}
        found = conversion.changed(manifest, oci=self.form.oci, renamed=self.renamed, left_out=left_out)
        if found is not manifest:
            digest = Digest.of(found.body, descriptor.digest.algorithm)
            made = Descriptor(found.media_type, digest, len(found.body))
            self.keep(made, found.body)
            self.renamed[descriptor.digest] = self.converted[digest] = made

    def _visit_children(self, manifest: Manifest, depth: int) -> None:
        wanted = wanted_children(manifest, self.parts)
        if manifest.manifests and not wanted and not depth:
            raise NoPlatform(self.parts.platforms)
        kept = {child.digest for child in wanted}
        self.sparse.extend(child.digest for child in manifest.manifests if child.digest not in kept)
        manifests = [child for child in wanted if child.media_type in media_types.MANIFESTS]
        self.expected |= {child.digest: child for child in manifests}
        for child in wanted:
            if child.media_type in media_types.MANIFESTS:
                self._visit_child(child, depth + 1)
            elif not child.is_foreign:
                self._visit_unknown(child, depth + 1)

    def _visit_child(self, child: Descriptor, depth: int) -> None:
        """`missingChildren: sparse`: without what is gone upstream."""
        try:
            self.visit(child, depth)
        except UpstreamNotFound:
            if not self.parts.sparse:
                raise
            self.gone.append(child.digest)

    def _visit_unknown(self, child: Descriptor, depth: int) -> None:
        """An entry of an index may be a blob (BuildKit's caches list layers): try both."""
        if child.digest in self.blobs or child.digest in self.manifests:
            return
        if is_surely_blob(child):
            self.blobs[child.digest] = child
            return
        self._check_bounds(depth)
        try:
            manifest = self.source.read(child)
        except (UpstreamNotFound, ContentError):
            # Whatever was wrong with it as a manifest: as a blob, its digest will be checked.
            self.blobs[child.digest] = child
        else:
            self._enter(child, manifest, depth)


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
            body = self.repository.staged_lately(descriptor.digest)
            if body is None and self.repository.adopt_blob(descriptor.digest):
                body = held_body(self.repository, descriptor.digest)
            if body is not None:
                return parsed(self.run, self.image, descriptor, body, None)
            return self._fetch(descriptor)

    def peek(self, descriptor: Descriptor) -> Manifest:
        self.run.check_stopped()
        body = self.repository.pool_content(descriptor.digest, at_most=MAX_MANIFEST_BYTES)
        if body is not None:
            return parsed(self.run, self.image, descriptor, body, None)
        fetched = fetch(self.run, self.image, descriptor.digest, keep=True)
        return parsed(self.run, self.image, descriptor, fetched.body, fetched.media_type)

    def _fetch(self, descriptor: Descriptor) -> Manifest:
        fetched = fetch(self.run, self.image, descriptor.digest)
        manifest = parsed(self.run, self.image, descriptor, fetched.body, fetched.media_type)
        stored = Descriptor(manifest.media_type, descriptor.digest, len(fetched.body))
        self.repository.stage(stored, fetched.body)
        return manifest


def keeping(run: MirrorRun, image: Image) -> ManifestSource:
    """Manifests of the image's repository, from wherever they can be had, kept in the pool."""
    return _Keeping(run, image, run.store.repository(image.local))


def walk(
    run: MirrorRun,
    image: Image,
    source: ManifestSource,
    keep: Callable[[Descriptor, bytes], None] = _forget,
) -> ImagePlan:
    """Walk the manifest tree of an image. `keep` is given every manifest that is made of another one.

    Raises what `plan_image` raises.
    """
    tree = _Tree(source, image.parts, image.form, keep)
    with blamed(run, image, image.digest):
        tree.visit(Descriptor(image.media_type, image.digest, -1))
    if tree.gone:
        _note_gone(run, image, tree)
    kept = set(tree.manifests) | set(tree.blobs)
    return ImagePlan(
        image,
        tuple({**tree.manifests, **tree.converted}.values()),
        tuple(tree.blobs.values()),
        tuple(dict.fromkeys(digest for digest in (*tree.sparse, *tree.gone) if digest not in kept)),
        tree.renamed,
        tuple(dict.fromkeys(tree.gone)),
    )


def _note_gone(run: MirrorRun, image: Image, tree: _Tree) -> None:
    """Raises `WrongContent` where nothing of an index is left."""
    if not tree.blobs:
        raise WrongContent(
            Where(run.upstream.name, image.source, image.reference),
            f"all that its index lists is gone upstream: {', '.join(tree.gone[:3])}",
        )
    run.live.remark(
        f"{image.name}: left out what its index lists and the upstream does not have any more "
        f"(missingChildren: sparse): {', '.join(dict.fromkeys(tree.gone))}"
    )


def plan_image(run: MirrorRun, image: Image) -> ImagePlan:
    """Fetch and validate the manifest tree; bodies go to the pool, where no tag shows them yet.

    Raises `ContentError` (`WrongContent`), `NoPlatform`, `UpstreamError` (also `UpstreamSchema1`),
    `StoreError`, `Stopped`.
    """
    repository = run.store.repository(image.local)
    return walk(run, image, _Keeping(run, image, repository), repository.stage)
