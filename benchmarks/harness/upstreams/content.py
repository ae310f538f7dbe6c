"""Made-up registries: the same to the byte each time, quick to make, and as much as is wanted."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import Origin, TagRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

ENTRY: Final = "upstream"  # what profiles of benchmarks call their registry entry
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_PUSHED: Final = 1_709_251_200.0
# One block over and over, behind a beginning of its own: nothing on the way looks at more than the digest.
_BLOCK: Final = random.Random(1).randbytes(1 << 20)  # noqa: S311 - repeatable, and not secret


def pieces(name: str, size: int) -> Iterator[bytes]:
    """`size` bytes that no other name has, a megabyte at a time."""
    first = f"{name}\n".encode()[:size]
    if first:
        yield first
    left = size - len(first)
    while left > 0:
        yield _BLOCK[:left]
        left -= len(_BLOCK)


def put(store: Store, repository: str, name: str, size: int, media_type: str = _LAYER) -> Descriptor:
    """A blob of `size` bytes, from its name."""
    descriptor = Descriptor(media_type, _digest(name, size), size)
    with store.repository(RepositoryName(repository)).receive_blob(descriptor) as incoming:
        if not incoming.complete:
            for piece in pieces(name, size):
                incoming.write(piece)
            incoming.commit()
    return descriptor


def _digest(name: str, size: int) -> Digest:
    import hashlib

    hasher = hashlib.sha256()
    for piece in pieces(name, size):
        hasher.update(piece)
    return Digest(f"sha256:{hasher.hexdigest()}")


def image(store: Store, repository: str, label: str, layers: Sequence[Descriptor], *tags: str) -> Descriptor:
    """An image of layers that are in the repository already, under some tags; `label` makes it unique."""
    target = store.repository(RepositoryName(repository))
    text = json.dumps({"architecture": "amd64", "os": "linux", "made": f"{repository} {label}"}).encode()
    config = Descriptor(media_types.OCI_CONFIG, Digest.of(text), len(text))
    target.put_blob(config, text)
    body = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [each.to_json() for each in layers],
    }
    made = target.put_manifest(parse_manifest(json.dumps(body).encode(), media_types.OCI_MANIFEST))
    for tag in tags:
        put_tag(target, tag, made)
    return made


def put_tag(target: Repository, tag: str, made: Descriptor, *, mirrored: bool = False) -> None:
    """`mirrored`: as a poll leaves it, with where it came from."""
    origin = Origin(ENTRY, str(target.name), made.digest) if mirrored else None
    target.put_tag(Tag(tag), TagRecord(made.digest, made.media_type, made.size, _PUSHED, origin))


def tagged(store: Store) -> dict[str, list[str]]:
    """Repositories and their tags."""
    return {str(name): [str(tag) for tag in store.repository(name).tags()] for name in store.repositories()}


@dataclass(frozen=True, slots=True)
class Poll:
    """Many tags, little content: what a poll looks at. Each repository has a few images for its tags."""

    tags: int
    repositories: int
    images: ClassVar[int] = 10  # of one repository

    def fill(self, store: Store, *, mirrored: bool = False) -> None:
        for number in range(self.repositories):
            name = self.name(number)
            made = [self._image(store, name, f"image-{each}") for each in range(self.images)]
            target = store.repository(RepositoryName(name))
            for tag in range(number, self.tags, self.repositories):
                put_tag(target, f"v{tag}", made[tag // self.repositories % self.images], mirrored=mirrored)

    def change(self, store: Store, changed: int, round_number: int) -> None:
        """Give `changed` tags, spread over the repositories, an image that was not there before."""
        for number in range(changed):
            tag = (number * self.tags) // changed
            name = self.name(tag % self.repositories)
            made = self._image(store, name, f"changed-{round_number}-{number}")
            put_tag(store.repository(RepositoryName(name)), f"v{tag}", made)

    def name(self, number: int) -> str:
        return f"poll/repository-{number % self.repositories:03}"

    @staticmethod
    def _image(store: Store, name: str, label: str) -> Descriptor:
        layer = put(store, name, f"{name}/{label}", 2000)
        return image(store, name, label, [layer])


@dataclass(frozen=True, slots=True)
class Mirror:
    """Images as they are in registries: families of them share layers, sizes are log-normal.

    `median` is that of a layer, in bytes; `big` images have one layer of `big_bytes` more.
    """

    images: int
    repositories: int
    median: int
    big: int = 0
    big_bytes: int = 0
    seed: int = 7
    _random: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_random", random.Random(self.seed))  # noqa: S311 - repeatable

    def fill(self, store: Store) -> int:
        """How many distinct digests there are, manifests and configs included."""
        bases = [self._layers(f"base-{number}", 1, 3) for number in range(5)]
        for number in range(self.repositories):
            name = f"apps/application-{number:02}"
            family = [*bases[number % len(bases)], *self._layers(f"family-{number}", 2, 4)]
            for each in range(number, self.images, self.repositories):
                own = self._layers(f"own-{each}", 1, 2)
                big = [(f"big-{each}", self.big_bytes)] if each < self.big else []
                held = [put(store, name, *layer) for layer in (*family, *own, *big)]
                image(store, name, f"{each}", held, f"v{each}")
        return sum(1 for path in (store.root / "blobs").rglob("*") if path.is_file())

    def _layers(self, name: str, fewest: int, most: int) -> list[tuple[str, int]]:
        count = self._random.randint(fewest, most)
        return [(f"{name}-{each}", self._size()) for each in range(count)]

    def _size(self) -> int:
        return max(200, int(self._random.lognormvariate(math.log(self.median), 0.8)))
