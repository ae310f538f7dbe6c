"""The pool: immutable content by digest, one per storage root (manifests included)."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from registry_server.store.filesystem.disk import chunks, file_size, is_file, read, remove
from registry_server.store.filesystem.locks import try_lock
from registry_server.store.trash import Trash

if TYPE_CHECKING:
    from registry_server.store.filesystem.disk import Disk


def file_name(digest: Digest) -> str:
    """`sha256-<hex>`: a colon is no good in a file name on every system."""
    return digest.replace(":", "-", 1)


def digest_of(file: str) -> Digest | None:
    """`sha256-<hex>` -> `sha256:<hex>`; None for any other name."""
    try:
        return Digest(file.replace("-", ":", 1))
    except InvalidName:
        return None


class Pool:
    """Content under `blobs/`. Methods raise OSError."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.trash = Trash(disk.root)

    def path(self, digest: Digest) -> str:
        encoded = digest.hex
        return f"{self._disk.root}/blobs/{digest.algorithm}/{encoded[:2]}/{encoded}"

    def incoming_path(self, digest: Digest) -> str:
        return f"{self._disk.root}/incoming/{file_name(digest)}"

    def size(self, digest: Digest) -> int | None:
        """Bytes; None when it is not here. What a collector was about to throw away is put back."""
        found = file_size(self.path(digest))
        if found is None and self.restore(digest):
            return file_size(self.path(digest))
        return found

    def keeps(self, digest: Digest) -> bool:
        """Whether it could be had, be it out of the trash; it stays where it is."""
        return is_file(self.path(digest)) or self.trash.holds(file_name(digest))

    def restore(self, digest: Digest) -> bool:
        """Get a blob that is missing out of the trash, if it is there."""
        return self.trash.give_back(file_name(digest), self.path(digest))

    def put(self, digest: Digest, content: bytes) -> None:
        """Small content that was checked in memory; it replaces a damaged file of that name."""
        if self.size(digest) != len(content) or read(self.path(digest)) != content:
            self._disk.write(self.path(digest), content, mode=0o444, immutable=True)

    def adopt_file(self, digest: Digest, fd: int, path: str) -> None:
        """Move the verified file `path`, open as `fd`, into the pool.

        A rename and not a link: there is never a second name through which the content could be changed,
        and it replaces a damaged file of that name.
        """
        os.fchmod(fd, 0o444)
        os.utime(fd)  # a resumed file may be old, and a garbage collector goes by age
        try:
            self._disk.flusher.content(fd)
        except BaseException:
            remove(path)  # it would read back well from memory, and nobody would sync it again
            raise
        self._disk.rename(path, self.path(digest))

    def new_incoming(self, digest: Digest) -> int:
        """An empty incoming file, locked, in the place of the one that the caller has locked."""
        staged = self._disk.stage(b"", mode=0o600)
        fd = os.open(staged, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not try_lock(fd):
                raise OSError(errno.EAGAIN, "a new incoming file is locked by another process", staged)
            self._disk.place(staged, self.incoming_path(digest))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def is_intact(self, digest: Digest) -> bool:
        """Read the whole file and compare."""
        fd = os.open(self.path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            hasher = hashlib.new(digest.algorithm)
            for piece in chunks(fd, os.fstat(fd).st_size):
                hasher.update(piece)
        finally:
            os.close(fd)
        return hasher.hexdigest() == digest.hex
