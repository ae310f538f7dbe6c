"""Promotion into another registry: content by digest first, then the tags; if one fails, all are set back.

A registry has no change of many tags at once. For a moment readers see some of them changed. The record of
the change is written before, so that what a killed process left is undone by the next promotion there.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from profiles.model.destination import STORE
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import ImageName, Tag
from registry_server.store.errors import TagMoved
from registry_server.store.mirror_state.tag_switch import all_changes, drop_change, mark_done, note_change
from registry_server.store.records import TagRecord
from tasks.destinations.interface import DestinationFailed, TagKept
from tasks.destinations.looking import ours_in
from tasks.destinations.targets import open_registry
from tasks.run.transfers import Transfers
from tasks.stored.promotion_places import Move, StorePlace, brought_by
from tasks.upstream.login.credential_sources import StandardCredentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeVar

    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.bundles.document import Content
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.mirror_state.tag_switch import Change, TagChange
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.destinations.registry import RegistryDestination
    from tasks.stored.promotion_places import Found, PromotionPlace
    from tasks.upstream.blob import BlobSink

    T = TypeVar("T")
    R = TypeVar("R")

log = logging.getLogger("mirrorflow.promotion")
_ENTRY = "promoted"  # what `{entry}` is in the template of a destination


class _DeletesNoTags(DestinationFailed):
    """No later try does better."""


@dataclass(frozen=True, slots=True)
class RegistryPlace:
    """One destination, with threads for as many requests as it may get at once."""

    store: Store
    entries: Sequence[RegistryEntry]
    registry: RegistryDestination
    transfers: Transfers

    @property
    def destination(self) -> str:
        return self.registry.name

    def called(self, name: RepositoryName) -> str:
        url = self.registry.settings.url
        return f"{url.registry}/{url.repository(self.registry.remote(name))}"

    def conflict(self, name: RepositoryName) -> str:
        return brought_by((each for each in self.entries if self.destination in each.to), name)

    def found(self, images: Sequence[ImageName]) -> Found:
        return dict(self._each(self._now, images))

    def _now(self, image: ImageName) -> TagRecord | None:
        """Raises `TagKept` for a tag that somebody else has set, unless `force: true` says otherwise."""
        there = self.registry.names(image.repository, image.reference)
        if there is None:
            return None
        if there == ours_in(self.registry, image) and isinstance(image.reference, Tag):
            return self.registry.state.repository(image.repository).tag(image.reference)
        if not self.registry.settings.force:
            raise TagKept(
                f"somebody else has set it in destination {self.destination}, where "
                f"{self.called(image.repository)}:{image.reference} names {there}; it is overwritten with "
                "`force: true` only"
            )
        body = self.registry.manifest(image.repository, there)
        return TagRecord(there, body.media_type, len(body.body), 0.0)

    def after(self, record: TagRecord) -> TagRecord:
        """What the image was converted from does not go along. Raises `DestinationFailed`."""
        if record.sparse:
            reason = "its index lists images that were left out; write `rewrite: true` for its platforms"
            raise DestinationFailed(self.destination, reason)
        return TagRecord(record.digest, record.media_type, record.size, time.time(), verdict=record.verdict)

    def stage(self, moves: Iterable[Move]) -> None:
        moves = list(moves)
        blobs = [(move, blob) for move in moves for blob in move.closure.blobs.values()]
        self._all(self._bring, blobs)
        self._all(self._put_manifests, moves)
        self.registry.state.sync()

    def _bring(self, item: tuple[Move, Content]) -> None:
        move, blob = item

        def feed(sink: BlobSink) -> None:
            for piece in move.source.find_blob(blob.digest).pieces(sink.offset):
                sink.write(piece)

        self.registry.bring(move.target, Descriptor("", blob.digest, blob.size), feed)

    def _put_manifests(self, move: Move) -> None:
        for digest, manifest in _children_first(move.source, move.closure.manifests):
            self.registry.put_manifest(move.target, manifest, digest)

    def judges_rollback(self) -> bool:
        return False

    def finish_interrupted(self) -> None:
        """Raises `DestinationFailed` where it cannot be undone.

        A new tag in a registry that deletes no tags is left: nobody could go on there otherwise.
        """
        for change in all_changes(self.store):
            if change.destination == self.destination and not change.done:
                self._undo(change)

    def switch(self, change: Change) -> None:
        """Companions come first. Raises the error of a tag; what cannot be undone is told with it."""
        note_change(self.store, change)
        order = sorted(change.tags.items(), key=lambda item: not is_companion_tag(_tag(item[0])))
        try:
            self._all(partial(self._move, bool(change.undoes)), order)
        except BaseException as error:
            self._undo(change, because=error)
            raise
        mark_done(self.store, change)

    def _move(self, again: bool, item: tuple[str, TagChange]) -> None:  # noqa: FBT001 - of `partial`
        name, each = ImageName.parse(item[0]), item[1]
        there = self.registry.names(name.repository, name.reference)
        if there != (each.before.digest if each.before else None):
            raise TagMoved(f"{name} was moved by somebody else in destination {self.destination}")
        self._set(name, each.after, again=again)

    def _set(self, name: ImageName, record: TagRecord | None, *, again: bool) -> None:
        """`again`: it is an image that was there before, and may not be any more."""
        local, tag = name.repository, _tag(str(name))
        if record is None:
            if not self.registry.take_away(local, tag):
                raise _DeletesNoTags(
                    self.destination,
                    f"it deletes no tags, so {name} stays; "
                    "only a promotion without new tags can be taken back",
                )
            return
        manifest = self.registry.manifest(local, record.digest)
        if again:
            self.registry.put_children_again(local, manifest)
        if self.registry.holds(local, record.descriptor):
            self.registry.put_tag(local, tag, record, manifest)
        else:
            self.registry.give_back(local, tag, manifest)

    def _undo(self, change: Change, because: BaseException | None = None) -> None:
        """Set every tag back that has been moved. Its record stays where that failed.

        Raises `DestinationFailed`.
        """
        failed = {
            name: error
            for (name, _), error in self._each(self._set_back, [*change.tags.items()])
            if error is not None
        }
        if failed and because is None and all(isinstance(each, _DeletesNoTags) for each in failed.values()):
            log.warning("%s: %s", change.what, "; ".join(map(str, failed.values())))
        elif failed:
            said = "; ".join(f"{name}: {error}" for name, error in failed.items())
            reason = f"not all tags could be set back: {said}" + (
                f" (because of: {because})" if because else ""
            )
            raise DestinationFailed(self.destination, reason) from because
        drop_change(self.store, change)

    def _set_back(self, item: tuple[str, TagChange]) -> None:
        name, each = ImageName.parse(item[0]), item[1]
        there = self.registry.names(name.repository, name.reference)
        before = each.before.digest if each.before else None
        if there != before and there == (each.after.digest if each.after else None):
            self._set(name, each.before, again=True)

    def _all(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        """Raises the error of the first item that has one, when all have been tried."""
        for _, error in self._each(work, items):
            if error is not None:
                raise error

    def _each(self, work: Callable[[T], R], items: Sequence[T]) -> list[tuple[T, R | MirrorflowError]]:
        def attempt(item: T) -> R | MirrorflowError:
            try:
                return work(item)
            except MirrorflowError as error:
                return error

        return list(zip(items, self.transfers.each(attempt, items), strict=True))


@contextmanager
def open_place(
    profile: Profile, store: Store, target: str, source: str
) -> Iterator[tuple[PromotionPlace, str]]:
    """Where TO of a promotion is, and below which prefix: the store, or a destination.

    `NAME` is the destination of that name, where images keep their names; with `NAME:PREFIX` they stand below
    that prefix. `store:PREFIX` is the store, and so is everything else. Raises `DestinationFailed`.
    """
    name, colon, prefix = target.partition(":")
    destinations = {each.name for each in profile.destinations}
    if name in destinations:
        with open_registry_place(profile, store, name) as place:
            yield place, prefix or source
    elif colon and name != STORE:
        known = ", ".join(sorted((STORE, *destinations)))
        raise DestinationFailed(name, f"the profile has no destination of this name; it has: {known}")
    else:
        yield StorePlace(store, profile.sync.registries), prefix if colon else target


@contextmanager
def open_registry_place(profile: Profile, store: Store, name: str) -> Iterator[RegistryPlace]:
    """The destination `name` of the profile. Raises `DestinationFailed`, `StoreError`."""
    credentials = StandardCredentials(profile.sync.credentials_file)
    registry = open_registry(profile, name, store, credentials, entry=_ENTRY)
    transfers = Transfers(registry.settings.req_concurrent)
    try:
        yield RegistryPlace(store, profile.sync.registries, registry, transfers)
    finally:
        transfers.close()
        registry.registry.close()


def _tag(name: str) -> Tag:
    reference = ImageName.parse(name).reference
    assert isinstance(reference, Tag), "tags are promoted"
    return reference


def _children_first(source: Repository, digests: Iterable[Digest]) -> Iterator[tuple[Digest, Manifest]]:
    """A registry takes an index when it has what the index lists."""
    read: dict[Digest, Manifest] = {}
    for digest in digests:
        descriptor, body = source.read_manifest(digest)
        read[digest] = parse_manifest(body, descriptor.media_type)
    below = {
        digest: [child.digest for child in manifest.manifests if child.digest in read]
        for digest, manifest in read.items()
    }
    for digest in TopologicalSorter(below).static_order():
        yield digest, read[digest]
