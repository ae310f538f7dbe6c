"""How work is cut into task runs: pure.

A task run costs some 20 to 45 ms of CPU, most of it in the Prefect server, so their number follows what has
changed and stays at a few hundred, whatever the size of the run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry_server.oci.descriptor import Descriptor
    from tasks.run.values import Image

T = TypeVar("T")

# Up to so many members each has its own task runs, which is what a person wants to see in the UI...
SINGLES: Final = 200
# ... and beyond that there are groups, of at least so many that their work outweighs their four task runs...
GROUP: Final = 20
# ... and larger ones where there would be more groups than this.
GROUPS: Final = 60
# A blob of this size is worth a task run of its own; smaller ones are packed up to it.
PACK_BYTES: Final = 64 * 1024 * 1024


def group(members: Sequence[T]) -> list[tuple[T, ...]]:
    """Groups of one while there are few; else of equal size, `GROUP` or more, in the order given."""
    size = 1 if len(members) <= SINGLES else max(GROUP, math.ceil(len(members) / GROUPS))
    return [tuple(members[start : start + size]) for start in range(0, len(members), size)]


def pack(blobs: Iterable[Descriptor], *, images: int = 1) -> list[tuple[Descriptor, ...]]:
    """Big blobs alone, small ones together, the biggest first; a group of `images` gets bigger packs."""
    limit = PACK_BYTES * images
    packs: list[tuple[Descriptor, ...]] = []
    small: list[Descriptor] = []
    held = 0
    for blob in sorted(blobs, key=lambda each: (-each.size, each.digest)):
        if small and held + blob.size > limit:
            packs.append(tuple(small))
            small, held = [], 0
        small.append(blob)
        held += blob.size
    return [*packs, tuple(small)] if small else packs


def label(images: Sequence[Image]) -> str:
    """What a person reads on a task run: `library/nginx:1.25`, or `34 images of library/nginx`."""
    if len(images) == 1:
        return str(images[0].name)
    repositories = {image.local for image in images}
    where = repositories.pop() if len(repositories) == 1 else f"{len(repositories)} repositories"
    return f"{len(images)} images of {where}"
