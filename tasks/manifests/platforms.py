"""Which entries of an index a rule wants: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.image_parts import ImageParts
    from registry_server.oci.descriptor import Descriptor, Platform
    from registry_server.oci.forms import Form
    from registry_server.oci.manifest import Manifest

_UNKNOWN: Final = "unknown"
# BuildKit's attestation manifests name the image that they accompany in this annotation.
_REFERENCE: Final = "vnd.docker.reference.digest"
_TYPE: Final = "vnd.docker.reference.type"
# Layers, and what BuildKit's caches list: no registry has a manifest of these types.
_SURELY_BLOBS: Final = (".layer.", ".rootfs.", "buildkit")


def is_surely_blob(child: Descriptor) -> bool:
    """Whether an entry of an index is a blob by its type alone."""
    return any(part in child.media_type for part in _SURELY_BLOBS)


def wanted_children(index: Manifest, parts: ImageParts | Form) -> tuple[Descriptor, ...]:
    """All entries without a wish; else those of a wished platform, their attestations, and what has none.

    An entry without a platform is kept: it is no alternative to another one (nested indexes, artifacts).
    """
    entries = tuple(child for child in index.manifests if parts.attestations or not _is_attestation(child))
    if not parts.platforms:
        return entries
    chosen = {child.digest for child in entries if _fits(child.platform, parts.platforms)}
    return tuple(
        child for child in entries if child.digest in chosen or child.annotations.get(_REFERENCE) in chosen
    )


def _is_attestation(child: Descriptor) -> bool:
    return child.annotations.get(_TYPE) == "attestation-manifest"


def _fits(platform: Platform | None, wishes: Sequence[Platform]) -> bool:
    if platform is None or not (platform.os or platform.architecture):
        return True
    if platform.os == _UNKNOWN:  # attestations: they follow their image, not a wish
        return False
    return any(wish.accepts(platform) for wish in wishes)
