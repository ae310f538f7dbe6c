"""A blob that is still arriving, seen by who reads it: how far it is, whether it is whole, whether it failed.

The writer says by the file's own state how it stands: mode 0444 once size and digest are verified, no name
any more when the content was thrown away, no lock when the writer is gone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import translated
from registry_server.store.filesystem.locks import is_locked
from registry_server.store.pool.blob_pool import blob_key
from registry_server.store.records import StoredBlob

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository

_WRITABLE: Final = 0o222


class IncomingAborted(MirrorflowError):
    """The blob will not arrive through this file: its bytes were wrong, or its writer is gone."""

    retryable = True


@dataclass(frozen=True, slots=True)
class IncomingState:
    """`size` bytes are there; `verified`: they are the blob; `named`: the file still has a name."""

    size: int
    verified: bool
    named: bool


class IncomingReader:
    """An open incoming file. Close it; raises OSError."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def state(self) -> IncomingState:
        found = os.fstat(self.fd)
        return IncomingState(found.st_size, not found.st_mode & _WRITABLE, found.st_nlink > 0)

    def read(self, size: int, position: int) -> bytes:
        """Up to `size` bytes from `position`; b"" may also mean that they are not visible here yet."""
        return os.pread(self.fd, size, position)

    def is_being_written(self) -> bool:
        return is_locked(self.fd)

    def close(self) -> None:
        os.close(self.fd)


@translated
def open_incoming(repository: Repository, digest: Digest) -> IncomingReader | None:
    """The file that `digest` is arriving in; None when there is none (any more).

    This looks at no marker: it is for who has been told that the repository may have the blob.
    """
    pool, incoming = repository._pool, repository._incoming_files  # noqa: SLF001 - a part of the store
    # It may move from the one to the other place between two looks, but never back.
    for opened in (pool.descriptor, incoming.open_to_read, pool.descriptor):
        fd = opened(digest)
        if fd is not None:
            return IncomingReader(fd)
    return None


@translated
def find_arrived(repository: Repository, digest: Digest) -> StoredBlob | None:
    """The blob, if it is in the pool by now: its marker comes later. As `open_incoming`, no right."""
    pool = repository._pool  # noqa: SLF001 - as above
    size = pool.size(digest)
    return None if size is None else StoredBlob(digest, size, pool.objects, blob_key(digest))
