"""What of an image is in the store: every manifest and blob that its clients would fetch, by platform.

Manifests are read, and their digests checked. Of a blob the size is compared with its descriptor's: hashing
all blobs is what `store scrub` is for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.descriptor import Platform
from registry_server.oci.errors import MirrorflowError, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import DOCKER_CONFIG, MANIFESTS, OCI_CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.store.repository import Repository

_MOST_CONFIG: Final = 4 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """`absent`: platforms of the image that are not here; `unknown`: platforms that the image does not have.

    `missing` are manifests and blobs that belong to what is here, with the reason. `foreign`: it has layers
    that registries do not distribute. `present`: the platforms that are here.
    """

    absent: tuple[Platform, ...] = ()
    unknown: tuple[Platform, ...] = ()
    missing: tuple[str, ...] = ()
    foreign: bool = False
    present: tuple[Platform, ...] = ()


def examine(
    repository: Repository, digest: Digest, wanted: Sequence[Platform], sparse: Sequence[Digest] = ()
) -> Contents:
    """`wanted`: what nodes are; without any, all that is not left out on purpose (`sparse`) must be here.

    Never raises for what is damaged or absent: `missing` says so.
    """
    try:
        manifest = _read(repository, digest)
    except MirrorflowError as error:
        return Contents(missing=(str(error),))
    if not manifest.is_index:
        return _single(repository, manifest, wanted)
    return _index(repository, manifest, wanted, frozenset(sparse))


def _index(
    repository: Repository, index: Manifest, wanted: Sequence[Platform], sparse: frozenset[Digest]
) -> Contents:
    held = {child.digest: _gaps(repository, child) for child in index.manifests}
    images = [
        child for child in index.manifests if child.platform is not None and child.platform.os != "unknown"
    ]
    here = [child for child in images if held.get(child.digest) == ()]
    present = tuple(dict.fromkeys(child.platform for child in here if child.platform))
    foreign = any(_has_foreign(repository, child) for child in here)
    if not wanted or not images:
        missing = tuple(gap for digest, gaps in held.items() if digest not in sparse for gap in gaps)
        return Contents(missing=missing, foreign=foreign, present=present)
    chosen = {
        wish: [each for each in images if each.platform and wish.accepts(each.platform)] for wish in wanted
    }
    lacking = {wish: each for wish, each in chosen.items() if each and not any(one in here for one in each)}
    damaged = [child for each in lacking.values() for child in each if _is_begun(repository, child)]
    return Contents(
        absent=tuple(wish for wish, each in lacking.items() if not any(one in damaged for one in each)),
        unknown=tuple(wish for wish, each in chosen.items() if not each),
        missing=tuple(dict.fromkeys(gap for child in damaged for gap in _gaps(repository, child))),
        foreign=foreign,
        present=present,
    )


def _single(repository: Repository, manifest: Manifest, wanted: Sequence[Platform]) -> Contents:
    """Of one platform, which its config names; what is no image (a chart) has none."""
    missing = tuple(_missing_blobs(repository, manifest))
    platform = _platform(repository, manifest)
    unknown = tuple(wish for wish in wanted if platform is not None and not wish.accepts(platform))
    present = (platform,) if platform is not None and not missing else ()
    return Contents(unknown=unknown, missing=missing, foreign=_is_foreign(manifest), present=present)


def _gaps(repository: Repository, child: Descriptor) -> tuple[str, ...]:
    """What is missing of an entry of an index, which may be a blob (BuildKit's caches) or an index."""
    if child.is_foreign:
        return ()
    try:
        if child.media_type not in MANIFESTS:
            return tuple(_missing_blob(repository, child))
        manifest = _read(repository, child.digest)
    except MirrorflowError as error:
        return (str(error),)
    below = [gap for each in manifest.manifests for gap in _gaps(repository, each)]
    return (*below, *_missing_blobs(repository, manifest))


def _missing_blobs(repository: Repository, manifest: Manifest) -> Iterator[str]:
    for blob in manifest.blobs:
        yield from _missing_blob(repository, blob)


def _missing_blob(repository: Repository, blob: Descriptor) -> Iterator[str]:
    try:
        size = repository.find_blob(blob.digest).size
    except MirrorflowError as error:
        yield str(error)
        return
    if size != blob.size:
        sizes = f"has {size:,} bytes here, and {blob.size:,} by its manifest"
        yield f"{repository.name}: blob {blob.digest} {sizes}"


def _is_begun(repository: Repository, child: Descriptor) -> bool:
    """Whether a part of it is here: then what is missing was lost, and not left out."""
    try:
        repository.find_manifest(child.digest)
    except NotFound:
        return False
    return True


def _has_foreign(repository: Repository, child: Descriptor) -> bool:
    if child.media_type not in MANIFESTS:
        return False
    return _is_foreign(_read(repository, child.digest))


def _is_foreign(manifest: Manifest) -> bool:
    return len(manifest.blobs_with(foreign=True)) > len(manifest.blobs)


def _platform(repository: Repository, manifest: Manifest) -> Platform | None:
    config = manifest.config
    if config is None or config.media_type not in {OCI_CONFIG, DOCKER_CONFIG} or config.size > _MOST_CONFIG:
        return None
    try:
        document: Any = json.loads(repository.find_blob(config.digest).read(_MOST_CONFIG))
    except (MirrorflowError, OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("architecture"), str):
        return None
    fields = (document.get(key) for key in ("os", "architecture", "variant", "os.version"))
    return Platform(*(each if isinstance(each, str) else "" for each in fields))


def _read(repository: Repository, digest: Digest) -> Manifest:
    descriptor, body = repository.read_manifest(digest)
    return parse_manifest(body, descriptor.media_type)
