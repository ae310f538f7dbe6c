"""Blobs on their way out of object storage: an empty object `trash/<algorithm>-<hex>` says so.

A blob stays where it is until the next collection deletes it. Nobody can delete "unless it was marked
meanwhile", so three steps exclude each other by turns of one name: to say of blobs that they go, to delete
them, and to rely on a blob of the pool. Who relies on one takes its tombstone away; who deletes looks at the
tombstones, and at the age of what is below them, once he is alone. What is put again is younger than its
tombstone, and stays.

One thing has no turn, because it may take hours: the upload of a file. It is for blobs that the pool had not
when it began, so that no tombstone is for them, unless it takes longer than the collector's delay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry_server.store.pool.blob_pool import Trashed, blob_key, digest_of, file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from registry_server.oci.digest import Digest
    from registry_server.store.objects.objects import ObjectInfo, Objects
    from registry_server.store.turns.turns import Turns

_FOLDER: Final = "trash"
_POOL: Final = "blobs"  # the turn


class Tombstones:
    """`Trash` of a storage root in object storage. Methods raise `StoreError`."""

    has_content = False

    def __init__(self, objects: Objects, turns: Turns) -> None:
        self._objects, self._turns = objects, turns

    def put(self, digest: Digest, content: bytes, mark: Callable[[], object]) -> None:
        with self._turns.among_others(_POOL):
            self._objects.put(blob_key(digest), content, immutable=True)
            mark()

    def adopt(self, digest: Digest, marker: str) -> bool:
        with self._turns.among_others(_POOL):
            if self._objects.look(blob_key(digest)) is None:
                return False
            self._objects.remove(_key(digest))
            self._objects.mark(marker)
        return True

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
            going = dict(self._old_blobs(gone, told))
            self._objects.remove(*going)
            # After the blobs: killed in between, the next collection goes on.
            self._objects.remove(*(f"{_FOLDER}/{each.key}" for each in gone))
        return sum(going.values())

    def tidy(self) -> None:
        """A folder without objects is none."""

    def size(self, content: Sequence[Trashed]) -> int:
        found = (self._objects.look(blob_key(each.digest)) for each in content if each.digest)
        return sum(each.size for each in found if each)

    def _old_blobs(
        self, content: Sequence[Trashed], told: dict[str, ObjectInfo]
    ) -> Iterator[tuple[str, int]]:
        """Key and size of what was not put again since its tombstone was."""
        for each in content:
            blob = each.digest and self._objects.look(blob_key(each.digest))
            if each.digest and blob and blob.modified < told[f"{_FOLDER}/{each.key}"].modified:
                yield blob_key(each.digest), blob.size


def _key(digest: Digest) -> str:
    return f"{_FOLDER}/{file_name(digest)}"
