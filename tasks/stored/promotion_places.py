"""Where a promotion goes: below another prefix of the store, or into another registry (registry_place.py)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from profiles.matching import sources
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.mirror_state.tag_switch import switch_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from profiles.model.registry_entry import RegistryEntry
    from registry_server.bundles.closure import StoredClosure
    from registry_server.oci.digest import Digest
    from registry_server.oci.errors import MirrorflowError
    from registry_server.oci.reference import ImageName, RepositoryName
    from registry_server.store.mirror_state.tag_switch import Change
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

    Found = dict[ImageName, TagRecord | MirrorflowError | None]


@dataclass(frozen=True, slots=True)
class Move:
    """What images of one repository stand on, on its way into another one."""

    source: Repository
    target: RepositoryName
    closure: StoredClosure


class PromotionPlace(Protocol):
    """Repositories have their names here. Methods may raise `StoreError`, `DestinationFailed`."""

    @property
    def destination(self) -> str:
        """Its name in the profile; "" for the store."""

    def called(self, name: RepositoryName) -> str:
        """What rules of `verify` call the repository."""

    def conflict(self, name: RepositoryName) -> str:
        """Why nothing may be promoted into the repository; "" where it may."""

    def found(self, images: Sequence[ImageName]) -> Found:
        """What the tags name now: None for nothing; an error where the tag may not be moved."""

    def after(self, record: TagRecord) -> TagRecord:
        """What a tag will be there. Raises `MirrorflowError` for what cannot be there."""

    def stage(self, moves: Iterable[Move]) -> None:
        """Bring everything that the tags will name."""

    def judges_rollback(self) -> bool:
        """Whether what tags named before can be judged from the store."""

    def finish_interrupted(self) -> None:
        """Undo or finish what a killed process left."""

    def switch(self, change: Change) -> None:
        """Change all tags or none, as far as the place has that."""


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Readers see all tags change at once."""

    store: Store
    entries: Sequence[RegistryEntry]

    @property
    def destination(self) -> str:
        return ""

    def called(self, name: RepositoryName) -> str:
        return name

    def conflict(self, name: RepositoryName) -> str:
        return brought_by(self.entries, name)

    def found(self, images: Sequence[ImageName]) -> Found:
        return {
            image: self.store.repository(image.repository).tag(image.reference)
            for image in images
            if isinstance(image.reference, Tag)
        }

    def after(self, record: TagRecord) -> TagRecord:
        origin = record.origin and replace(record.origin, on_demand=False)
        return replace(record, pushed=time.time(), origin=origin)

    def stage(self, moves: Iterable[Move]) -> None:
        for move in moves:
            if move.source.name != move.target:
                _bring(move.source, self.store.repository(move.target), move.closure)

    def judges_rollback(self) -> bool:
        return True

    def finish_interrupted(self) -> None:
        """`switch` does it."""

    def switch(self, change: Change) -> None:
        switch_tags(self.store, change)


def brought_by(entries: Iterable[RegistryEntry], name: RepositoryName) -> str:
    """Invariant 5: what a registry entry brings is that entry's, and the next poll would move it."""
    for entry in entries:
        if entry.content and sources(entry, name):
            return f"the registry entry {entry.name!r} brings what is under this name; take another one"
    return ""


def _bring(source: Repository, target: Repository, closure: StoredClosure) -> None:
    for blob in closure.blobs:
        if not target.adopt_blob(blob):
            _copy(source, target, blob)
    for digest in closure.manifests:
        descriptor, body = source.read_manifest(digest)
        target.put_manifest(parse_manifest(body, descriptor.media_type), digest)


def _copy(source: Repository, target: Repository, digest: Digest) -> None:
    """Repositories in different storage roots share no content."""
    held = source.find_blob(digest)
    with target.receive_blob(Descriptor("", digest, held.size)) as incoming:
        if not incoming.complete:
            for piece in held.pieces(incoming.offset):
                incoming.write(piece)
        incoming.commit()
