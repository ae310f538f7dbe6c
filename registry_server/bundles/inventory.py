"""What a store holds, as a list that can be carried to where a bundle for it is made.

Only what tags stand on is listed, with what refers to it: the collector may take everything else before the
bundle comes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from registry_server.bundles.closure import StoredClosure
from registry_server.bundles.document_reading import check_version
from registry_server.bundles.errors import BundleInvalid
from registry_server.bundles.fields import digest, expect, moment, text
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ContentError, NotFound
from registry_server.store.errors import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.store.store import Store

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Inventory:
    """The tags of the store with this uuid, and the digests of everything that they stand on.

    `refused`: images of the last bundle that were not taken, with the digests of what they consisted of
    (`BundledImage.members`).
    """

    store: str
    taken: str
    images: Mapping[str, Digest]
    contents: frozenset[str]
    refused: Mapping[str, Digest] = field(default_factory=dict)

    @property
    def id(self) -> Digest:
        """What bundles call it: the digest of it as it is written."""
        return Digest.of(canonical(self.to_json()))

    def holds(self, name: str, found: Digest) -> bool:
        """Whether the tag is there and names this."""
        return self.images.get(name) == found

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "store": self.store,
            "taken": self.taken,
            "images": dict(self.images),
            "contents": sorted(self.contents),
            "refused": dict(self.refused),
        }

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Inventory:
        """Raises `BundleTooNew`, `BundleInvalid`."""
        check_version(document, VERSION, "the inventory")
        contents = expect(document.get("contents"), list, "contents")
        found = cls(
            text(document.get("store"), "store"),
            moment(document.get("taken"), "taken"),
            _digests(document.get("images"), "images"),
            frozenset(digest(each, "contents") for each in contents),
            _digests(document.get("refused"), "refused"),
        )
        if len(found.contents) != len(contents):
            raise BundleInvalid("the inventory lists a content twice")
        return found


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one way in which a document is written: equal documents are equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def take_inventory(store: Store, taken: str, refused: Mapping[str, Digest] | None = None) -> Inventory:
    """Of what is served. `taken` is the time. Raises `StoreError`."""
    images: dict[str, Digest] = {}
    contents: set[str] = set()
    for name in store.repositories():
        repository = store.repository(name)
        closure = StoredClosure(repository)
        for tag, record in repository.tag_records().items():
            # What is not whole here is not listed: then the next bundle brings it.
            with suppress(NotFound, StoreDamaged, ContentError):
                closure.add(record)
                images[f"{name}:{tag}"] = record.digest
        contents |= closure.manifests.keys()
        contents |= closure.blobs.keys()
    return Inventory(store.uuid, taken, images, frozenset(contents), dict(refused or {}))


def _digests(found: Any, where: str) -> dict[str, Digest]:
    pairs = expect(found, dict, where).items()
    return {text(name, where): digest(each, f"{where}.{name}") for name, each in pairs}
