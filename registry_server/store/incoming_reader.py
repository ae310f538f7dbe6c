"""A blob that is still arriving, seen by who reads it: how far it is, whether it is whole, whether it failed.

The writer says by the file's own state how it stands: mode 0444 once size and digest are verified, no name
any more when the content was thrown away, no lock when the writer is gone.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import translated

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository

_WRITABLE: Final = 0o222
_FLOCK: Final = "hhqqi4x"
_WHOLE_FILE: Final = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


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
        """Whether somebody holds the file's lock. Looks without taking it: writers are not disturbed."""
        found = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, _WHOLE_FILE)
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        os.close(self.fd)


@translated
def open_incoming(repository: Repository, digest: Digest) -> IncomingReader | None:
    """The file that `digest` is arriving in; None when there is none (any more).

    This looks at no marker: it is for who has been told that the repository may have the blob.
    """
    pool = repository._pool  # noqa: SLF001 - a part of the store that reads what another part writes
    # It may move from the one to the other place between two looks, but never back.
    for path in (pool.path(digest), pool.incoming_path(digest), pool.path(digest)):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return IncomingReader(fd)
        os.close(fd)
    return None
