"""One manifest or small blob at a time: from the run's memory, the store, or the upstream, and validated.

Small blobs are configs and signatures: `select` reads configs, and the allow-list of companions reads both.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ContentError, DigestMismatch, SizeMismatch
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from registry_server.store.errors import translated
from tasks.manifests.verdict_record import OWN_TYPE, is_own
from tasks.run.errors import ReservedType, TagMoved, WrongContent
from tasks.upstream.blob import InMemory
from tasks.upstream.errors import UpstreamError, UpstreamNotFound, UpstreamSchema1, Where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image
    from tasks.upstream.registry import Fetched

# What registries answer that do not have a manifest by its digest, or know no digests.
_NOT_BY_DIGEST: Final = frozenset({400, 404, 405})


def fetch(run: MirrorRun, image: Image, digest: Digest, *, keep: bool = False) -> Fetched:
    """Ask the upstream, once. `keep` where the store is not to be written yet.

    Raises `UpstreamError`, `TagMoved`.
    """
    found = run.recent.find(image.source, digest)
    if found is None:
        found = _fetch(run, image, digest)
        if keep:
            run.recent.keep(image.source, found)
    return found


def _fetch(run: MirrorRun, image: Image, digest: Digest) -> Fetched:
    """By digest; by the tag from registries that have manifests by tag only, if that is still the digest."""
    try:
        return run.upstream.manifest(image.source, digest)
    except UpstreamError as error:
        if error.status not in _NOT_BY_DIGEST or digest != image.digest or image.reference == digest:
            raise
        try:
            found = run.upstream.manifest(image.source, image.upstream_reference)
        except UpstreamNotFound:
            raise error from None
    if found.digest != digest:
        where = Where(run.upstream.name, image.source, image.upstream_reference)
        raise TagMoved(where, f"it named {digest}, which is gone, and names {found.digest} now")
    return found


def fetch_by_tag(run: MirrorRun, image: Image) -> Image:
    """The image as its tag is now, by one GET. The manifest is kept for the steps that read it by digest.

    Raises `UpstreamError`.
    """
    found = run.upstream.manifest(image.source, image.upstream_reference)
    run.recent.keep(image.source, found)
    return replace(image, digest=found.digest, media_type=found.media_type or image.media_type)


def parsed(
    run: MirrorRun, image: Image, descriptor: Descriptor, body: bytes, media_type: str | None
) -> Manifest:
    """Validate a manifest against the descriptor that led to it, whose type beats the Content-Type.

    Raises `WrongContent`; `ReservedType` for a verdict, which never comes from an upstream. A negative size
    is not known: the root's, of which only a HEAD has been seen.
    """
    with blamed(run, image, descriptor.digest):
        if descriptor.size >= 0 and len(body) != descriptor.size:
            raise SizeMismatch(expected=descriptor.size, actual=len(body))
        manifest = parse_manifest(body, descriptor.media_type or media_type, same_kind=True)
        if is_own(manifest):
            raise ReservedType(Where(run.upstream.name, image.source, descriptor.digest), OWN_TYPE)
        return manifest


def with_type(run: MirrorRun, image: Image) -> Image:
    """The image with the type that its manifest has, where the upstream's Content-Type says nothing.

    Policies judge images and indexes differently. What cannot be read is left for the step that needs it.
    Raises `UpstreamSchema1`.
    """
    if not media_types.is_generic(image.media_type):
        return image
    try:
        fetched = fetch(run, image, image.digest, keep=True)
        found = parsed(run, image, Descriptor("", image.digest, -1), fetched.body, fetched.media_type)
    except UpstreamSchema1:
        raise
    except (UpstreamError, ContentError):
        return image
    return replace(image, media_type=found.media_type)


@contextmanager
def blamed(run: MirrorRun, image: Image, digest: Digest) -> Iterator[None]:
    """Say where wrong content came from: registry, repository, and the tag or the digest below it."""
    try:
        yield
    except (UpstreamError, WrongContent):
        raise  # it says so already
    except ContentError as error:
        reference = image.upstream_reference if digest == image.digest else digest
        raise WrongContent(Where(run.upstream.name, image.source, reference), str(error)) from error


@translated
def held_body(repository: Repository, digest: Digest) -> bytes | None:
    """A manifest that is in the pool and marked here; None when it is not, is damaged, or cannot be one."""
    return repository.small_blob(digest, at_most=MAX_MANIFEST_BYTES)  # an index may name a layer of gigabytes


def fetch_small_blob(run: MirrorRun, image: Image, descriptor: Descriptor) -> bytes:
    """From the upstream; the caller has looked at its size. Nothing is stored.

    Raises `WrongContent`: a decision must not rest on what somebody else wrote. Raises `UpstreamError`.
    """
    if descriptor.data is not None:
        return descriptor.data
    sink = InMemory()
    run.upstream.blob(image.source, descriptor, sink)
    content = bytes(sink.content)
    actual = Digest.of(content, descriptor.digest.algorithm)
    if actual != descriptor.digest:
        with blamed(run, image, descriptor.digest):
            raise DigestMismatch(expected=descriptor.digest, actual=actual)
    return content
