"""One repository: reading, taking blobs (repository_blobs.py), and writing in an order that survives a crash.

Order of publication (invariant 1): blobs into the pool, markers, manifest, referrer entry, then the tag.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from registry_server.oci.errors import (
    BlobUnknown,
    DigestMismatch,
    MirrorflowError,
)
from registry_server.oci.manifest import parse_manifest
from registry_server.store import records
from registry_server.store.closure import blobs_of, first_tag_on, manifests_below, missing_of
from registry_server.store.errors import ClosureIncomplete, StillNeeded, TagMoved, translated
from registry_server.store.objects.objects import Conflict, put_if_changed, update
from registry_server.store.pool.blob_pool import file_name
from registry_server.store.pool.brought import announce_removal
from registry_server.store.repository_blobs import BlobReceiver
from registry_server.store.repository_reader import held_manifests, polls_in, tag_record_in

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import Tag
    from registry_server.store.pool.brought import Begun
    from registry_server.store.records import PollRecord, TagRecord

    Condition = Callable[[TagRecord | None], bool]


class Repository(BlobReceiver):
    """One repository of the store. Cheap to make, safe to share between threads and processes."""

    @translated
    def put_manifest(self, manifest: Manifest, digest: Digest | None = None) -> Descriptor:
        """Keep a manifest under `digest` (default: its sha256); its children need not be here yet.

        Raises `DigestMismatch` when `digest` is not the body's.
        """
        descriptor = manifest.descriptor(digest.algorithm if digest else "sha256")
        if digest is not None and descriptor.digest != digest:
            raise DigestMismatch(expected=digest, actual=descriptor.digest)
        record = partial(self._record_manifest, manifest, descriptor, self._begin())
        self._pool.put(descriptor.digest, manifest.body, record)
        return descriptor

    @translated
    def put_tag(self, tag: Tag, record: TagRecord, *, only_if: Condition | None = None) -> None:
        """Make an image visible, after everything that it stands on is on the disk (invariant 1).

        Raises `ManifestUnknown` and `ClosureIncomplete` when it is not all here, and `TagMoved` when
        `only_if` does not hold of what the tag names now.
        """
        # From the look until the tag is there, nobody removes anything of this repository.
        with self._turn(by_itself=only_if is not None):
            if only_if is not None:
                self._check_condition(tag, self._tag_record(tag), only_if)
            self._root.brought.confirm(self._folder)
            if missing := missing_of(self, record):
                for digest in missing:
                    self._pool.trash.forget(digest, self._blob_key(digest))
                raise ClosureIncomplete(f"{self.name}:{tag}", missing)
            self._show_tag(tag, record, only_if)

    def _check_condition(self, tag: Tag, held: TagRecord | None, only_if: Condition | None) -> None:
        if only_if is not None and not only_if(held):
            raise TagMoved(f"{self.name}:{tag} does not have the digest that the request requires")

    def _show_tag(self, tag: Tag, record: TagRecord, only_if: Condition | None) -> None:
        content = records.encode(records.tag_to_json(record))
        if self._root.is_local:
            self._let_go(tag, record.digest)
            self._objects.put(self._tag_key(tag), content, settled=True)
            return

        def change(old: bytes | None) -> bytes:
            held = records.decoded(old, records.tag_from_json)
            # Whoever lost his turn without notice looks at what the others have put meanwhile.
            self._check_condition(tag, self._settled(held), only_if)
            self._let_go_of(held, record.digest)
            return content

        update(self._objects, self._tag_key(tag), change, probably_new=self.tag(tag) is None)
        self._memory.amend(f"{self._folder}/tags", lambda tags: tags.update({tag: record}))

    @translated
    def delete_tag(self, tag: Tag) -> None:
        """Take a tag away; the manifest stays. A tag that is not there is no error."""
        self._let_go(tag)
        self._remove(self._tag_key(tag), self._pull_key(tag))

    @translated
    def replace_record(self, tag: Tag, record: TagRecord) -> bool:
        """Note something new about a tag; False when it names something else by now, or is gone."""
        key = self._tag_key(tag)
        with self._turn(by_itself=True):
            stored = self._objects.get(key)
            held = tag_record_in(stored.content) if stored else None
            now = self._settled(held)
            if stored is None or held is None or now is None or now.roots != record.roots:
                return False
            if held.pending is not None and now is not held.pending.record:
                record = replace(record, pending=held.pending)  # a note must not take it out of the change
            # In a bucket the turn may be lost, and not noticed yet.
            version = None if self._root.is_local else stored.version
            try:
                self._objects.put(key, records.encode(records.tag_to_json(record)), instead_of=version)
            except Conflict:
                return False
            finally:
                self._memory.forget(key)
        return True

    @translated
    def withdraw(self, tags: Mapping[Tag, TagRecord], manifests: Iterable[Digest]) -> None:
        """Serve these no longer: tags, then manifests, then the blobs that no other manifest here needs.

        Nobody can set a tag meanwhile, and what a tag stands on that was set since the caller looked stays:
        so a tag that is there afterwards has its closure (invariant 1). The bytes are left to the collector.
        """
        with self._turn(by_itself=True):
            left = self._written_tags()
            going = [tag for tag, record in tags.items() if self._names_still(left.get(tag), record)]
            for tag in going:
                self._let_go(tag)
                del left[tag]
            self._remove(*map(self._tag_key, going))
            self._objects.settle()  # a power cut must not bring a tag back without its manifest
            kept = set(manifests_below(self, (root for each in left.values() for root in each.roots)))
            manifests = [digest for digest in manifests if digest not in kept]
            self._announce_removal()
            needed = {blob for each in manifests for blob in blobs_of(self, each)}
            for digest in manifests:
                self._withdraw_referrer(digest)
                self._remove(self._manifest_key(digest))
            others = held_manifests(self) if needed else ()
            blobs = needed.difference(*(blobs_of(self, each) for each in others))
            # A manifest has a marker as a blob too where a mirror brought it.
            self._unmark([*blobs, *manifests])

    def _names_still(self, held: TagRecord | None, record: TagRecord) -> bool:
        now = self._settled(held)
        return now is not None and now.roots == record.roots

    def _remove(self, *keys: str) -> None:
        self._objects.remove(*keys)
        self._memory.forget(*keys)

    def _announce_removal(self) -> None:
        if not self._root.is_local:
            announce_removal(self._objects, self._folder)

    def _unmark(self, digests: Iterable[Digest]) -> None:
        keys = {digest: self._blob_key(digest) for digest in digests}
        for digest, marker in keys.items():
            self._pool.trash.forget(digest, marker)
        self._remove(*keys.values())

    def _let_go(self, tag: Tag, following: Digest | None = None) -> None:
        """The age of an untagged manifest counts from now on: somebody may be in the middle of pulling it."""
        self._let_go_of(self._tag_record(tag), following)

    def _let_go_of(self, record: TagRecord | None, following: Digest | None) -> None:
        if record is not None and record.digest != following:
            self._objects.renew(*map(self._manifest_key, record.roots))

    @translated
    def delete_manifest(self, digest: Digest) -> list[Tag]:
        """Take a manifest away, and the tags on it, which are returned; its bytes are left to the collector.

        Raises `ManifestUnknown`, and `StillNeeded` when it is a part of a tagged index.
        """
        with self._turn(by_itself=True):
            found = self._manifest_record(digest)
            if found is None:
                self._unknown_manifest(digest)
            tagged = self._written_tags()
            named = {tag: now.digest for tag, each in tagged.items() if (now := self._settled(each))}
            mine = [tag for tag, each in named.items() if each == digest]
            self._check_unneeded(digest, {tag: tagged[tag] for tag in tagged if tag not in mine})
            if mine:
                self._remove(*map(self._tag_key, mine))
                self._objects.settle()  # a power cut must not bring a tag back without its manifest
            self._announce_removal()
            self._withdraw_referrer(digest)
            gone: list[Tag | Digest] = [digest, *mine]
            self._remove(self._manifest_key(digest), *map(self._pull_key, gone))
        return mine

    @translated
    def delete_blob(self, digest: Digest) -> None:
        """Take a blob away from this repository; its bytes are left to the collector.

        Raises `BlobUnknown`, and `StillNeeded` when it is a part of a tagged image.
        """
        with self._turn(by_itself=True):
            if not self._is_there(self._blob_key(digest)):
                self._known()
                raise BlobUnknown(f"{self.name}: there is no blob {digest} in this repository")
            self._check_unneeded(digest, self._written_tags())
            self._announce_removal()
            self._unmark([digest])

    @translated
    def put_poll(self, record: PollRecord, *, keep: Container[str] = ()) -> None:
        """Remember a poll of this repository, which need not exist, beside those of the entries `keep`."""

        def change(old: bytes | None) -> bytes:  # entries run side by side
            return records.encode(records.poll_to_json(record.beside(polls_in(old), keep)))

        memory = self._main.pool.memory
        update(self._main.objects, self._poll_key, change, known=memory.held(self._poll_key))
        memory.forget(self._poll_key)
        self._objects.leave_snapshot(f"{self._folder}/tags")

    def _record_manifest(self, manifest: Manifest, descriptor: Descriptor, begun: Begun | None) -> None:
        key = self._manifest_key(descriptor.digest)
        record = descriptor.to_json() | {"pushed": time.time()}
        record.pop("annotations", None)  # only the list of referrers shows them
        if self._put_record(key, descriptor, records.encode(record)):
            self._root.brought.note(begun, key, descriptor)
        if manifest.subject is not None:
            folder = f"{self._folder}/referrers/{file_name(manifest.subject.digest)}"
            entry = records.encode(descriptor.to_json())
            put_if_changed(self._objects, f"{folder}/{file_name(descriptor.digest)}", entry)

    def _put_record(self, key: str, descriptor: Descriptor, content: bytes) -> bool:
        """One that says the same is only made young. Whether it is new."""
        if not self._root.is_local:
            with contextlib.suppress(Conflict):  # most manifests are new: spare the look
                self._objects.put(key, content, new=True)
                return True
        held = self._manifest_record(descriptor.digest)
        is_new = held is None or held.media_type != descriptor.media_type or not self._objects.renew(key)
        if is_new:
            self._objects.put(key, content)
        return is_new

    def _turn(self, *, by_itself: bool) -> contextlib.AbstractContextManager[None]:
        """What is looked at before a tag appears is not deleted until it has appeared, and not after."""
        turns = self._root.turns
        return (turns.alone if by_itself else turns.among_others)(self.turn)

    def _check_unneeded(self, digest: Digest, tagged: Mapping[Tag, TagRecord]) -> None:
        tag = first_tag_on(self, digest, tagged)
        if tag is not None:
            raise StillNeeded(f"{self.name}:{tag}", digest)

    def _withdraw_referrer(self, digest: Digest) -> None:
        """The list leaves out what is deleted anyway; this only tidies up."""
        with contextlib.suppress(MirrorflowError):
            descriptor, body = self.read_manifest(digest)
            subject = parse_manifest(body, descriptor.media_type).subject
            if subject is not None:
                folder = f"{self._folder}/referrers/{file_name(subject.digest)}"
                self._objects.remove(f"{folder}/{file_name(digest)}")
