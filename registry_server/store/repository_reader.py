"""The reading half of a repository. Each read looks at this repository's own marker (invariant 3)."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import BlobUnknown, ManifestUnknown, NotFound, RepositoryUnknown
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store import records
from registry_server.store.errors import StoreDamaged, StoreError, translated
from registry_server.store.pool.blob_pool import blob_key, digest_of, file_name
from registry_server.store.pool.brought import keys_named_by, unmarked
from registry_server.store.records import PollRecord, StoredBlob, StoredManifest, TagRecord

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.manifest import Manifest
    from registry_server.store.repository import Repository
    from registry_server.store.storage_root import StorageRoot

_PULL_SECONDS: Final = 3600.0
VISIBLE: Final = "_r"
"""The folder of what a repository serves."""
HIDDEN: Final = "_h"
"""The folder of what it keeps and does not serve: made like the other one, and known to no server."""
AREAS: Final = (VISIBLE, HIDDEN)


class RepositoryReader:
    """What can be asked of one repository. Cheap to make, safe to share between threads."""

    def __init__(
        self, name: RepositoryName, root: StorageRoot, main: StorageRoot, area: str = VISIBLE
    ) -> None:
        self.name = name
        self._root, self._main = root, main
        self._objects, self._pool, self._memory = root.objects, root.pool, root.pool.memory
        # An area cannot be a part of a repository name, so `a` and `a/_r/…` never meet.
        self._folder = f"repos/{name}/{area}"
        self._poll_key = f"polls/{name}/_r.json"

    @property
    def exists(self) -> bool:
        """Whether a manifest is here, or was (in object storage: is)."""
        return self._objects.has_folder(f"{self._folder}/manifests")

    @translated
    def find_manifest(self, reference: Tag | Digest) -> StoredManifest:
        """Without reading the manifest itself. Raises `ManifestUnknown`, `RepositoryUnknown`."""
        if isinstance(reference, Digest):
            found = self._manifest_record(reference)
        else:
            record = self._tag_record(reference)
            found = (
                record.descriptor if record and self._is_there(self._manifest_key(record.digest)) else None
            )
        if found is None:
            self._unknown_manifest(reference)
        return StoredManifest(found)

    @translated
    def read_manifest(self, reference: Tag | Digest) -> tuple[Descriptor, bytes]:
        """The bytes are checked. Raises `ManifestUnknown`, `RepositoryUnknown`, `StoreDamaged`."""
        descriptor = self.find_manifest(reference).descriptor
        return descriptor, self.body_of(descriptor.digest, reference)

    def body_of(self, digest: Digest, reference: Tag | Digest | None = None) -> bytes:
        """Of a manifest that was found here: checked, as of `read_manifest`."""
        body = self._manifest_body(digest)
        if body is None and self._pool.restore(digest):
            body = self._manifest_body(digest)
        if body is None:
            self._unknown_manifest(reference or digest)
        return body

    @translated
    def find_blob(self, digest: Digest) -> StoredBlob:
        """Manifests count as blobs too. Raises `BlobUnknown`, `RepositoryUnknown`."""
        size = self._pool.size(digest) if self._is_member(digest) else None
        if size is None:
            self._known()
            raise BlobUnknown(f"{self.name}: there is no blob {digest} in this repository")
        return StoredBlob(digest, size, self._objects, blob_key(digest))

    @translated
    def has_blob(self, digest: Digest) -> bool:
        """Where markers suffice, damage of the pool is not seen here: scrub sees it.

        While this process holds a lease, it may be as it was some seconds ago.
        """
        if self._pool.trash.marks_suffice:
            return self._was_listed(digest) or self._is_member(digest)
        return self._is_member(digest) and self._pool.size(digest) is not None

    @translated
    def small_blob(self, digest: Digest, *, at_most: int) -> bytes | None:
        """The bytes of a blob or manifest, checked; None when it is larger, damaged or not here."""
        held = self._pool.trash.recent(digest, self._blob_key(digest))
        if held is not None:
            return held
        try:
            if self.find_blob(digest).size > at_most:
                return None
            return self._manifest_body(digest)
        except (NotFound, StoreDamaged):
            return None

    @translated
    def pool_holds(self, digest: Digest) -> bool:
        """Whether anybody brought the blob before. For plans: it is no right to read."""
        return self._pool.size(digest) is not None

    @translated
    def pool_keeps(self, digest: Digest) -> bool:
        """Whether the blob is there still, be it in the trash."""
        return self._pool.keeps(digest)

    @translated
    def pool_content(self, digest: Digest, *, at_most: int) -> bytes | None:
        """Of a small blob that is in the pool. For deciding whether it may come in here: it is no right to
        read. None for what is not there, has more bytes than `at_most`, or is damaged."""
        size = self._pool.size(digest)
        if size is None or size > at_most:
            return None
        content = self._pool.read(digest)
        return content if content is not None and Digest.of(content, digest.algorithm) == digest else None

    @translated
    def missing(self, manifest: Manifest) -> list[Descriptor]:
        """The blobs and child manifests of `manifest` that this repository does not hold."""
        if self._pool.trash.marks_suffice:
            brought = self._root.brought.has_all(self._folder, keys_named_by(self._folder, manifest))
            return [] if brought else unmarked(self._objects, self._folder, manifest)
        found = [blob for blob in manifest.blobs if not self.has_blob(blob.digest)]
        children = {child.digest: child for child in manifest.manifests if not child.is_foreign}
        return found + [child for child in children.values() if not self._has_child(child)]

    def tags(self, *, last: str = "", limit: int | None = None) -> list[Tag]:
        """In ASCII order, after `last`, at most `limit`. Raises `RepositoryUnknown`."""
        return [Tag.checked(name) for name in self.tag_names(last=last, limit=limit)]

    @translated
    def tag_names(self, *, last: str = "", limit: int | None = None) -> list[str]:
        """What `tags` gives, as plain texts: of 10,000, making the objects takes most of the time."""
        found = self._objects.page(f"{self._folder}/tags", Tag.is_valid, last=last, limit=limit)
        if not found:
            self._known()
        return found

    @translated
    def tag(self, tag: Tag) -> TagRecord | None:
        """While this process holds a lease, it may be as it was some seconds ago."""
        held = self._memory.listed(f"{self._folder}/tags", self.tag_records)
        return self._tag_record(tag) if held is None else held.get(tag)

    @translated
    def tag_records(self) -> dict[Tag, TagRecord]:
        """All tags with what they name; empty for a repository that is not here."""
        written = self._written_tags().items()
        return {tag: settled for tag, each in written if (settled := self._settled(each)) is not None}

    def _written_tags(self) -> dict[Tag, TagRecord]:
        """As their objects are: one that is about to change stands on what it will name as well."""
        found = {}
        for name, content in self._objects.contents(f"{self._folder}/tags"):
            # What else lies in the folder is not ours.
            record = records.decoded(content, records.tag_from_json) if Tag.is_valid(name) else None
            if record is not None:
                found[Tag(name)] = record
        return found

    @translated
    def referrers(self, subject: Digest) -> list[Descriptor]:
        """Manifests of this repository whose subject is `subject`, in the order of their digests."""
        folder = f"{self._folder}/referrers/{file_name(subject)}"
        held = self._objects.contents(folder)
        found = [records.decoded(content, records.descriptor_from_json) for _, content in held]
        # distribution-spec "Listing Referrers": an entry goes when its manifest is deleted.
        return [each for each in found if each and self._is_there(self._manifest_key(each.digest))]

    @translated
    def note_pull(self, reference: Tag | Digest) -> None:
        """Remember, for retention, that somebody pulls it; once an hour is enough. Never fails.

        Whether the hour is over is looked at once a minute.
        """
        key = self._pull_key(reference)
        if not self._root.pull_throttle.allow(key):
            return
        with contextlib.suppress(OSError, StoreError):  # full, or read-only: to serve is more important
            found = self._objects.look(key)
            if found is not None and abs(time.time() - found.modified) < _PULL_SECONDS:
                return
            if not self._objects.renew(key):
                self._objects.mark(key)

    @translated
    def pulled(self, reference: Tag | Digest) -> float:
        """When somebody last pulled it by this name, in unix seconds and to the hour; 0: nobody did."""
        found = self._objects.look(self._pull_key(reference))
        return 0.0 if found is None else found.modified

    @translated
    def poll(self, registry: str) -> PollRecord | None:
        """What the last poll by this registry entry remembered."""
        return next((each for each in self.polls() if each.registry == registry), None)

    @translated
    def polls(self) -> tuple[PollRecord, ...]:
        """The last poll by each registry entry, the newest first; mostly that is one."""
        ask = partial(self._main.objects.get, self._poll_key)
        found = self._main.pool.memory.lately(self._poll_key, ask)
        return polls_in(found.content if found else None)

    def expect(self, questions: int) -> None:
        """So many tags are about to be asked about: object storage is asked for all of them at once."""
        self._memory.expect(questions, *(f"{self._folder}/{kind}" for kind in ("tags", "manifests")))

    @property
    def folder(self) -> str:
        """The folder of its objects."""
        return self._folder

    @property
    def turn(self) -> str:
        """The turn by which a collector and whoever sets a tag keep out of each other's way."""
        return f"{self._folder}/lock"

    def manifest_record(self, digest: Digest) -> Descriptor | None:
        """What is noted of a manifest here; None when there is none."""
        key = self._manifest_key(digest)
        return self._root.brought.manifest(self._folder, key) or self._manifest_record(digest)

    def _tag_key(self, tag: Tag) -> str:
        return f"{self._folder}/tags/{tag}"

    def _blob_key(self, digest: Digest) -> str:
        return f"{self._folder}/blobs/{file_name(digest)}"

    def _manifest_key(self, digest: Digest) -> str:
        return f"{self._folder}/manifests/{file_name(digest)}"

    def _pull_key(self, reference: Tag | Digest) -> str:
        name = file_name(reference) if isinstance(reference, Digest) else reference
        return f"{self._folder}/pulls/{name}"

    def _tag_record(self, tag: Tag) -> TagRecord | None:
        return self._settled(self._objects.parsed(self._tag_key(tag), tag_record_in))

    def _settled(self, record: TagRecord | None) -> TagRecord | None:
        """Many tags can change at once: then one object says for all of them whether they have."""
        if record is None or record.pending is None:
            return record
        return record.settled(done=self._main.objects.look(done_key(record.pending.change)) is not None)

    def _manifest_record(self, digest: Digest) -> Descriptor | None:
        return self._objects.parsed(self._manifest_key(digest), _manifest_record)

    def _manifest_body(self, digest: Digest) -> bytes | None:
        key = blob_key(digest)

        def checked(body: bytes) -> bytes:
            if Digest.of(body, digest.algorithm) == digest:
                return body
            raise StoreDamaged(
                f"{self.name}@{digest}: {self._objects.where}/{key} is damaged; "
                "remove that file, and it is fetched again"
            )

        return self._pool.trash.put_lately(digest) or self._objects.parsed(key, checked, immutable=True)

    def _is_member(self, digest: Digest) -> bool:
        return self._is_there(self._blob_key(digest)) or self._is_there(self._manifest_key(digest))

    def _was_listed(self, digest: Digest) -> bool:
        for key in (self._manifest_key(digest), self._blob_key(digest)):
            folder, _, name = key.rpartition("/")
            if name in (self._memory.listed(folder, partial(self._names, folder)) or ()):
                return True
        return False

    def _names(self, folder: str) -> set[str]:
        return {*self._objects.names(folder).objects}

    def _is_there(self, key: str) -> bool:
        return self._objects.look(key) is not None

    def _has_child(self, child: Descriptor) -> bool:
        """An entry of an index may be a blob (BuildKit's cache), unless its type says that it is not."""
        if child.media_type not in media_types.MANIFESTS:
            return self.has_blob(child.digest)
        is_manifest = self._manifest_record(child.digest) is not None
        return is_manifest and self._pool.size(child.digest) is not None

    def _known(self) -> None:
        if not self.exists:
            raise RepositoryUnknown(f"there is no repository {self.name} in this store")

    def _unknown_manifest(self, reference: Tag | Digest) -> NoReturn:
        self._known()
        separator = "@" if isinstance(reference, Digest) else ":"
        raise ManifestUnknown(f"there is no manifest {self.name}{separator}{reference} in this store")


def done_key(change: str) -> str:
    """The object in the main root that says that this change of many tags is done."""
    return f"changes/{''.join(each for each in change if each.isalnum() or each == '-')}.done"


def tag_record_in(content: bytes) -> TagRecord | None:
    return records.decoded(content, records.tag_from_json)


def _manifest_record(content: bytes) -> Descriptor | None:
    return records.decoded(content, records.descriptor_from_json)


def polls_in(content: bytes | None) -> tuple[PollRecord, ...]:
    """The newest first; None: nothing was recorded."""
    last = records.decoded(content, records.poll_from_json)
    return (replace(last, others=()), *last.others) if last else ()


# Which manifests a repository holds, tagged or not: for who must know what belongs to what.


@translated
def held_manifests(repository: Repository) -> list[Digest]:
    """All of them, in no order; empty for a repository that is not here."""
    objects = repository._objects  # noqa: SLF001 - a part of the store that reads what another writes
    found = objects.names(f"{repository.folder}/manifests").objects
    return [digest for name in found if (digest := digest_of(name))]


@translated
def manifests_changed(repository: Repository) -> str:
    """Another text when a manifest was added or removed; "": there is no repository."""
    return repository._objects.folder_version(f"{repository.folder}/manifests")  # noqa: SLF001 - as above
