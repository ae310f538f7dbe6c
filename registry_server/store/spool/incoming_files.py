"""The local files of blobs that are arriving: `incoming/<algorithm>-<hex>`, one for each digest.

They are local for any store: whoever fetches a blob resumes it, and who follows it reads it, on this host.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from registry_server.store.filesystem.disk import remove
from registry_server.store.filesystem.locks import is_locked, try_lock
from registry_server.store.pool.blob_pool import file_name

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from registry_server.store.filesystem.disk import Disk


class IncomingFiles:
    """The incoming files of one storage root. Methods raise OSError."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @property
    def folder(self) -> str:
        return f"{self._disk.root}/incoming"

    def path(self, digest: Digest) -> str:
        return f"{self.folder}/{file_name(digest)}"

    def open(self, digest: Digest) -> int:
        """To be written, and made if it is not there."""
        path = self.path(digest)
        try:
            return self._disk.open_in(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            remove(path)  # a planted link: gone, and never followed
            return self._disk.open_in(path, os.O_RDWR | os.O_CREAT, 0o600)

    def open_to_read(self, digest: Digest) -> int | None:
        """None when there is none."""
        try:
            fd = os.open(self.path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None

    def is_being_written(self, digest: Digest) -> bool:
        """Whether some process of this host holds the file."""
        try:
            fd = self.open_to_read(digest)
        except OSError:
            return False
        if fd is None:
            return False
        try:
            return is_locked(fd)
        finally:
            os.close(fd)

    def replace(self, digest: Digest) -> int:
        """An empty file, locked, in the place of the one that the caller has locked."""
        staged = self._disk.stage(b"", mode=0o600)
        fd = os.open(staged, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not try_lock(fd):
                raise OSError(errno.EAGAIN, "a new incoming file is locked by another process", staged)
            self._disk.place(staged, self.path(digest))
        except BaseException:
            os.close(fd)
            raise
        return fd
