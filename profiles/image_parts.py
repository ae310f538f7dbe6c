"""Which parts of an image come in: what several rules want together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry_server.oci.descriptor import Platform


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
