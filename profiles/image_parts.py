"""Which parts of an image come in: what several rules want together, and which entries of an index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry_server.oci.descriptor import Descriptor, Platform
    from registry_server.oci.forms import Form
    from registry_server.oci.manifest import Manifest

_UNKNOWN: Final = "unknown"
# BuildKit's attestation manifests name the image that they accompany in this annotation.
_REFERENCE: Final = "vnd.docker.reference.digest"
_TYPE: Final = "vnd.docker.reference.type"
# Layers, and what BuildKit's caches list: no registry has a manifest of these types.
_SURELY_BLOBS: Final = (".layer.", ".rootfs.", "buildkit")


@dataclass(frozen=True, slots=True)
class ImageParts:
    """`platforms` () means all. `attestations`: BuildKit's attestation manifests too.

    `sparse`: an index is taken without entries that are gone upstream. `foreign`: layers that registries do
    not distribute are fetched as well.
    """

    platforms: tuple[Platform, ...] = ()
    attestations: bool = True
    sparse: bool = False
    foreign: bool = False

    @classmethod
    def union(cls, wishes: Iterable[ImageParts]) -> Self:
        """Everything that one of them wants. An index is only taken in part where all of them say so."""
        found = tuple(wishes)
        if not found:
            return cls()
        every = all(each.platforms for each in found)
        platforms = dict.fromkeys(each for wish in found for each in wish.platforms) if every else {}
        return cls(
            tuple(platforms),
            any(each.attestations for each in found),
            all(each.sparse for each in found),
            any(each.foreign for each in found),
        )

    @property
    def of_all_platforms(self) -> ImageParts:
        """For a manifest below an index: which of its entries come in was decided there."""
        return replace(self, platforms=())


ALL_PARTS: Final = ImageParts()


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
