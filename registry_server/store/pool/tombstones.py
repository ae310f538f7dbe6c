"""Blobs on their way out of object storage: an empty object `trash/<algorithm>-<hex>` says so.

A blob stays where it is until the next collection deletes it. Nobody can delete "unless it was marked
meanwhile", so three steps exclude each other by turns of one name: to say of blobs that they go, to delete
them, and to rely on a blob of the pool. Who relies on one takes its tombstone away; who deletes looks at the
tombstones, and at the age of what is below them, once he is alone. What is put again is younger than its
tombstone, and stays.

One thing has no turn, because it may take hours: the upload of a file. It is for blobs that the pool had not
when it began, so that no tombstone is for them. Amazon gives such an object the time at which its upload
began, and a collector may take it for an old one before it is marked. So a writer whose upload took longer
than young blobs are spared relies on it as on any other blob of the pool, in a turn.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cachetools import TTLCache

from registry_server.store.pool.blob_pool import SIZE_NOT_TOLD, Trashed, blob_key, digest_of, file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from registry_server.oci.digest import Digest
    from registry_server.store.objects.objects import ObjectInfo, Objects
    from registry_server.store.turns.turns import Turns

_FOLDER: Final = "trash"
_POOL: Final = "blobs"  # the turn
_RECENT_SECONDS: Final = 60.0
_RECENT_BYTES: Final = 32 << 20
_MOST_MARKERS: Final = 100_000


class Tombstones:
    """`Trash` of a storage root in object storage. Methods raise `StoreError`."""

    has_content = False
    marks_suffice = True

    def __init__(self, objects: Objects, turns: Turns, *, recent_seconds: float = _RECENT_SECONDS) -> None:
        """What this process put or marked so many seconds ago is not asked about again."""
        self._objects, self._turns = objects, turns
        self.spared_seconds = 2 * recent_seconds
        self._lock = threading.Lock()
        self._marked = TTLCache[str, bool](_MOST_MARKERS, recent_seconds)
        self._contents = TTLCache[str, bytes](_RECENT_BYTES, recent_seconds, getsizeof=len)

    def put(self, digest: Digest, content: bytes, mark: Callable[[], object]) -> None:
        with self._lock:
            is_there = digest in self._contents
        with self._turns.among_others(_POOL):
            if not is_there:
                self._objects.put(blob_key(digest), content, immutable=True)
            mark()
        with self._lock:
            if not is_there and len(content) <= _RECENT_BYTES:
                self._contents[digest] = content

    def mark(self, marker: str) -> None:
        self._objects.mark(marker)
        with self._lock:
            self._marked[marker] = True

    def forget(self, digest: Digest, marker: str) -> None:
        with self._lock:
            self._marked.pop(marker, None)
            self._contents.pop(digest, None)

    def recent(self, digest: Digest, marker: str) -> bytes | None:
        with self._lock:
            return self._contents.get(digest) if marker in self._marked else None

    def is_marked(self, marker: str) -> bool:
        with self._lock:
            return marker in self._marked

    def put_lately(self, digest: Digest) -> bytes | None:
        with self._lock:
            return self._contents.get(digest)

    def adopt(self, digest: Digest, marker: str) -> int | None:
        if self.is_marked(marker):
            return SIZE_NOT_TOLD
        with self._turns.among_others(_POOL):
            found = self._objects.look(blob_key(digest))
            if found is None:
                return None
            self._objects.remove(_key(digest))
            self.mark(marker)
        return found.size

    def give_back(self, digest: Digest) -> bool:
        with self._turns.among_others(_POOL):
            if self._objects.look(_key(digest)) is None:
                return False
            self._objects.remove(_key(digest))
        return True

    def holds(self, digest: Digest) -> bool:  # noqa: ARG002 - as in `Trash`
        """What is in the trash is in the pool as well."""
        return False

    def intents(self) -> Iterator[Digest]:
        """None: who relies on a blob has a turn until its marker is there."""
        return iter(())

    def content(self) -> Iterator[Trashed]:
        for name in self._objects.names(_FOLDER).objects:
            yield Trashed(name, digest_of(name))

    def take(self, blobs: Collection[Digest]) -> set[Digest]:
        with self._turns.alone(_POOL):
            self._objects.mark(*map(_key, blobs))
        return {*blobs}

    def purge(self, content: Sequence[Trashed]) -> int:
        with self._turns.alone(_POOL):
            told = dict(self._objects.walk(_FOLDER))
            gone = [each for each in content if f"{_FOLDER}/{each.key}" in told]
            going = self._old_blobs(gone, told)
            # Once more: a turn can be lost without notice, and then somebody may have taken one away.
            still = {key for key, _ in self._objects.walk(_FOLDER)}
            going = {blob: found for blob, found in going.items() if found[0] in still}
            self._objects.remove(*going)
            # After the blobs: killed in between, the next collection goes on.
            self._objects.remove(*(f"{_FOLDER}/{each.key}" for each in gone))
        return sum(size for _, size in going.values())

    def tidy(self) -> None:
        """A folder without objects is none."""

    def size(self, content: Sequence[Trashed]) -> int:
        found = self._objects.infos(*(blob_key(each.digest) for each in content if each.digest))
        return sum(each.size for each in found.values())

    def _old_blobs(
        self, content: Sequence[Trashed], told: dict[str, ObjectInfo]
    ) -> dict[str, tuple[str, int]]:
        """Tombstone and size by the key of a blob, of those that were not put again since.

        By whole seconds: a listing tells fractions of them (Google, MinIO), and an answer to HEAD does not.
        What is of the same second stays until the next collection.
        """
        tombstones = {blob_key(each.digest): f"{_FOLDER}/{each.key}" for each in content if each.digest}
        return {
            key: (tombstones[key], info.size)
            for key, info in self._objects.infos(*tombstones).items()
            if int(info.modified) < int(told[tombstones[key]].modified)
        }


def _key(digest: Digest) -> str:
    return f"{_FOLDER}/{file_name(digest)}"
