"""How work is cut into task runs: pure.

A task run costs some 20 to 45 ms of CPU, most of it in the Prefect server. So a chain of steps serves a
repository: big repositories are split, very many small ones share a chain, and a run stays at some 150 task
runs whatever its size. Inside a step the members of a chain are done in parallel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tasks.run.values import BlobCopy, Progress, SourceRepository

T = TypeVar("T")

# Five task runs each, and some for big blobs.
CHAINS: Final = 24
# A part of a repository has so many images that their work outweighs its four task runs.
PART: Final = 50
# A blob of this size is worth a task run of its own, as long as a run has no more of them than this.
BIG_BYTES: Final = 64 * 1024 * 1024
BIG_BLOBS: Final = 30


def chains(repositories: Sequence[SourceRepository]) -> list[tuple[SourceRepository, ...]]:
    """One each while there are few; else groups of equal size, in the order given."""
    return _cut(repositories, math.ceil(len(repositories) / CHAINS))


def parts(images: Sequence[Progress], *, of: int) -> list[tuple[Progress, ...]]:
    """The images of one of `of` chains; parts of a big repository go through the steps side by side."""
    most = max(1, CHAINS // max(1, of))
    return _cut(images, max(PART, math.ceil(len(images) / most)))


def _cut(members: Sequence[T], size: int) -> list[tuple[T, ...]]:
    size = max(1, size)
    return [tuple(members[start : start + size]) for start in range(0, len(members), size)]


def packs(copies: Iterable[BlobCopy], *, alone: int) -> list[tuple[BlobCopy, ...]]:
    """Big blobs, the biggest first, each for itself, at most `alone` of them; then all others together."""
    ordered = sorted(copies, key=lambda each: (-each.blob.size, each.blob.digest))
    big = [each for each in ordered if each.blob.size >= BIG_BYTES][: max(0, alone)]
    rest = tuple(ordered[len(big) :])
    return [*((each,) for each in big), *([rest] if rest else [])]


def label_of_repositories(members: Sequence[SourceRepository]) -> str:
    """What a person reads on a task run."""
    return members[0].name if len(members) == 1 else f"{len(members)} repositories"


def label(images: Sequence[Progress]) -> str:
    """`library/nginx:1.25`, or `library/nginx: 34 images`."""
    if len(images) == 1:
        return str(images[0].image.name)
    repositories = {each.image.local for each in images}
    where = repositories.pop() if len(repositories) == 1 else f"{len(repositories)} repositories"
    return f"{where}: {len(images)} images"


def blob_label(copies: Sequence[BlobCopy]) -> str:
    """`sha256:12ab34cd, 120.0 MB, for library/nginx:1.25`, or `library/nginx: 12 blobs, 34.0 MB`."""
    size = f"{sum(each.blob.size for each in copies) / 1e6:.1f} MB"
    if len(copies) == 1:
        return f"{copies[0].blob.digest.short}, {size}, for {copies[0].image.name}"
    repositories = {each.image.local for each in copies}
    where = repositories.pop() if len(repositories) == 1 else f"{len(repositories)} repositories"
    return f"{where}: {len(copies)} blobs, {size}"
