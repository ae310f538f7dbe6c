"""`bundle.json`: what is in a bundle, for which store it was made, and where each byte of it stands.

Format version 1 (docs/air-gap.md). It is the one part of a bundle that is signed; everything else is named
in it by digest. What is read comes from outside: an unknown key is passed over, whatever is known is checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from registry_server.bundles.tar_stream import Member, TarStream
from registry_server.oci import media_types
from registry_server.store.layout.exporter import CONTAINERD_NAME, REF_NAME
from registry_server.store.records import TagRecord, tag_to_json

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName, Tag

MEDIA_TYPE: Final = "application/vnd.mirrorflow.bundle.v1+json"
VERSION: Final = 1
LARGEST_DOCUMENT: Final = 256 * 2**20
"""Bytes: some million contents."""
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
TAR: Final = "bundle.tar"
_MOST_PARTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Content:
    """`size` bytes with this digest. `media_type` is that of a manifest, "" for a blob."""

    digest: Digest
    size: int
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class BundledImage:
    """A tag, and what it names. The `pushed` time and the verdict of the record are those of its store.

    `members` is a digest of the digests of all manifests that belong to the image, its signatures included.
    """

    repository: RepositoryName
    tag: Tag
    record: TagRecord
    members: Digest

    @property
    def name(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class BundleBase:
    """What the store that a bundle is for was known to hold: `inventory` is the id of the list of it.

    `store` is the uuid of that store, `taken` when the list was made.
    """

    inventory: Digest
    store: str
    taken: str


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a bundle."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BundleDocument:
    """A bundle. `store` is the uuid of the one that it comes from, `profile` the SHA-256 of the profile.

    `referrers`: manifests that have a subject, by the repository that holds them. `left_out`: images that the
    other side refused before, with its reason. `split` is the size of a part in bytes, 0 for one file.
    """

    created: str
    store: str
    profile: str
    base: BundleBase | None
    images: tuple[BundledImage, ...]
    referrers: dict[RepositoryName, tuple[Digest, ...]]
    contents: tuple[Content, ...]
    reports: tuple[dict[str, Any], ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    split: int = 0
    parts: tuple[Part, ...] = ()

    @cached_property
    def index(self) -> bytes:
        """`index.json` of the image layout: the named images, and the referrers, which have no name."""
        types = {each.digest: each for each in self.contents}
        entries = [_entry(image) for image in self.images]
        listed = {digest for digests in self.referrers.values() for digest in digests}
        entries += [
            {"mediaType": types[each].media_type, "digest": each, "size": types[each].size}
            for each in sorted(listed)
            if each in types
        ]
        body = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
        return json.dumps(body, separators=(",", ":")).encode() + b"\n"

    @cached_property
    def tar(self) -> TarStream:
        """The tar file that the parts are together."""
        fixed = (Member("oci-layout", len(LAYOUT)), Member("index.json", len(self.index)))
        blobs = (
            Member(f"blobs/{each.digest.algorithm}/{each.digest.hex}", each.size) for each in self.contents
        )
        return TarStream((*fixed, *blobs))

    def fixed_content(self, number: int) -> bytes | None:
        """The content of the tar's member `number` where the document says it; None for a content."""
        return (LAYOUT, self.index)[number] if number < _FIXED else None

    def content(self, number: int) -> Content:
        """That of the tar's member `number`."""
        return self.contents[number - _FIXED]

    @cached_property
    def places(self) -> dict[Digest, int]:
        """The number of the member of the tar that holds a digest."""
        return {each.digest: number for number, each in enumerate(self.contents, _FIXED)}

    @property
    def expected_parts(self) -> list[tuple[str, int]]:
        """Names and sizes of the files that hold the tar: all but the last are equal."""
        return part_sizes(self.tar.size, self.split)

    def encoded(self) -> bytes:
        """Equal for equal bundles."""
        return json.dumps(self._to_json(), separators=(",", ":"), sort_keys=True).encode() + b"\n"

    def _to_json(self) -> dict[str, Any]:
        base = self.base
        return {
            "mediaType": MEDIA_TYPE,
            "version": VERSION,
            "created": self.created,
            "source": {"store": self.store, "profile": {"sha256": self.profile}},
            "base": base and {"inventory": base.inventory, "store": base.store, "taken": base.taken},
            "images": [
                {
                    "repository": each.repository,
                    "tag": each.tag,
                    "record": tag_to_json(each.record),
                    "members": each.members,
                }
                for each in self.images
            ],
            "referrers": {name: list(digests) for name, digests in self.referrers.items()},
            "contents": [_content_json(each) for each in self.contents],
            "reports": list(self.reports),
            "leftOut": self.left_out,
            "split": self.split,
            "parts": [{"name": each.name, "size": each.size, "sha256": each.sha256} for each in self.parts],
        }


_FIXED: Final = 2  # members of the tar before the contents


def part_sizes(total: int, split: int) -> list[tuple[str, int]]:
    """Names and sizes of the parts of a tar of `total` bytes."""
    if not split or total <= split:
        return [(TAR, total)]
    count = -(-total // split)
    digits = max(3, len(str(count)))
    sizes = [split] * (count - 1) + [total - split * (count - 1)]
    return [(f"{TAR}.{number:0{digits}}", size) for number, size in enumerate(sizes, 1)]


def _entry(image: BundledImage) -> dict[str, Any]:
    record = image.record
    names = {REF_NAME: image.name, CONTAINERD_NAME: image.name}
    return {
        "mediaType": record.media_type,
        "digest": record.digest,
        "size": record.size,
        "annotations": names,
    }


def _content_json(content: Content) -> dict[str, Any]:
    body: dict[str, Any] = {"digest": content.digest, "size": content.size}
    return body | ({"mediaType": content.media_type} if content.media_type else {})
