"""Blobs on their way out of a folder: `trash/<epoch>/<algorithm>-<hex>`, until the next garbage collection.

Who misses a blob in the pool looks here and puts it back, so that a collector that was wrong about a blob
for a moment is never noticed (see gc/collector.py).
"""

# Texts instead of Path objects: see filesystem/disk.py.
# ruff: noqa: PTH103, PTH104, PTH106

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from registry_server.store.filesystem.disk import file_size, is_file, names, read, remove, touch
from registry_server.store.pool.blob_pool import SIZE_NOT_TOLD, Trashed, blob_key, digest_of, file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from registry_server.oci.digest import Digest
    from registry_server.store.filesystem.disk import Disk

_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class FolderTrash:
    """`Trash` of a storage root in a folder: a rename takes a blob out of the pool. Methods raise OSError."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._folder = f"{disk.root}/trash"

    has_content = True
    spared_seconds = 0.0
    marks_suffice = False  # a collector, or who damages the store, may be faster than the look

    def put(self, digest: Digest, content: bytes, mark: Callable[[], object]) -> None:
        """Twice: a collector that had not seen the mark may have taken it away in between."""
        self._put(digest, content)
        mark()
        self._put(digest, content)

    def mark(self, marker: str) -> None:
        self._disk.mark(f"{self._disk.root}/{marker}")

    def forget(self, digest: Digest, marker: str) -> None:
        """Nothing is remembered."""

    def recent(self, digest: Digest, marker: str) -> bytes | None:  # noqa: ARG002 - to read a file is as fast
        return None

    def is_marked(self, marker: str) -> bool:  # noqa: ARG002 - to look is as fast
        return False

    def put_lately(self, digest: Digest) -> bytes | None:  # noqa: ARG002 - to read a file is as fast
        return None

    def adopt(self, digest: Digest, marker: str) -> int | None:
        """The intent is on record before the look, so that a collector sees the one or the other.

        It is a file of our own until the blob turns out to be there: a marker that is withdrawn could be the
        one of a commit meanwhile. What is not there is brought, and needs no intent: most of a first mirror.
        """
        path = f"{self._disk.root}/{marker}"
        marked = touch(path)
        if not self._is_in_pool(digest):
            return None
        if marked:
            return SIZE_NOT_TOLD
        intent = self._disk.stage(b"", mode=0o444, intent=file_name(digest))
        if not self._is_in_pool(digest):
            remove(intent)
            return None
        self._disk.place(intent, path)
        return SIZE_NOT_TOLD

    def _put(self, digest: Digest, content: bytes) -> None:
        path = self._path(digest)
        if not self._is_in_pool(digest) or read(path) != content:
            self._disk.write(path, content, mode=0o444, immutable=True)

    def intents(self) -> Iterator[Digest]:
        for name in names(f"{self._disk.root}/staging"):
            digest = digest_of(name.partition(".")[2])
            if digest is not None:
                yield digest

    def content(self) -> Iterator[Trashed]:
        for epoch in self._epochs():
            for name in names(f"{self._folder}/{epoch}"):
                yield Trashed(f"{self._folder}/{epoch}/{name}", digest_of(name))

    def take(self, blobs: Collection[Digest]) -> set[Digest]:
        folder = f"{self._folder}/{max(self._epochs(), default=0) + 1}"
        os.makedirs(folder, exist_ok=True)
        taken = set()
        for digest in blobs:
            with contextlib.suppress(FileNotFoundError):  # somebody else was faster
                os.rename(self._path(digest), f"{folder}/{file_name(digest)}")
                taken.add(digest)
        return taken

    def give_back(self, digest: Digest) -> bool:
        """Never replaces what is in the pool by now."""
        for epoch in reversed(self._epochs()):
            trashed = f"{self._folder}/{epoch}/{file_name(digest)}"
            if is_file(trashed) and _link(trashed, self._path(digest)):
                remove(trashed)
                return True
        return False

    def holds(self, digest: Digest) -> bool:
        return any(is_file(f"{self._folder}/{epoch}/{file_name(digest)}") for epoch in self._epochs())

    def purge(self, content: Sequence[Trashed]) -> int:
        freed = self.size(content)
        for each in content:
            remove(each.key)
        return freed

    def tidy(self) -> None:
        """Remove folders that are empty by now."""
        for epoch in self._epochs():
            with contextlib.suppress(OSError):
                os.rmdir(f"{self._folder}/{epoch}")
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)

    def size(self, content: Sequence[Trashed]) -> int:
        return sum(file_size(each.key) or 0 for each in content)

    def _epochs(self) -> list[int]:
        """Oldest first."""
        return sorted(int(name) for name in names(self._folder) if name.isdecimal())

    def _is_in_pool(self, digest: Digest) -> bool:
        return is_file(self._path(digest)) or (self.give_back(digest) and is_file(self._path(digest)))

    def _path(self, digest: Digest) -> str:
        return f"{self._disk.root}/{blob_key(digest)}"


def _link(trashed: str, path: str) -> bool:
    try:
        os.link(trashed, path, follow_symlinks=False)
    except FileExistsError:
        return True  # another one was faster, or brought it anew
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _NOT_WRITABLE:  # a read-only store: nobody collects there either
            return False
        raise
    return True
