"""Blobs on their way in: one file per digest, filled by whoever holds its lock.

Resumption: the next writer hashes what is there and asks for the rest, also after a crash.
Coalescing: who cannot get the lock waits for the holder, and finds the blob in the pool.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch, SizeMismatch
from registry_server.store.errors import StoreLocked, WaitCancelled, translated
from registry_server.store.filesystem.disk import chunks, remove, write_all
from registry_server.store.filesystem.locks import is_same_file, try_lock
from registry_server.store.pool.blob_pool import SIZE_NOT_TOLD

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.pool.blob_pool import Pool
    from registry_server.store.spool.incoming_files import IncomingFiles

_POLL_SECONDS: Final = 0.05
_LATER: Final[int | None] = -1  # no descriptor: somebody else has the turn


class IncomingBlob:
    """One blob being filled. `offset`: bytes that are here and hashed; `complete`: nothing left to do.

    Made by `Repository.receive_blob`, used by one thread.
    """

    def __init__(
        self,
        pool: Pool,
        files: IncomingFiles,
        descriptor: Descriptor,
        fd: int | None,
        adopt: Callable[[float], object],
    ) -> None:
        self.descriptor = descriptor
        self.offset = descriptor.size if fd is None else 0
        self.complete = fd is None
        self._pool = pool
        self._files = files
        self._path = files.path(descriptor.digest)
        self._fd = fd
        self._adopt = adopt
        self._upload = pool.upload(descriptor.digest, descriptor.size)
        self._hasher = hashlib.new(descriptor.digest.algorithm)

    @translated
    def resume(self) -> None:
        """Hash what a predecessor left; take the blob in at once when it turns out to be whole."""
        if self.complete:
            return
        fd, size = self._open(), self.descriptor.size
        os.fchmod(fd, 0o600)
        there = os.fstat(fd).st_size
        if there > size:
            self.restart()
            return
        for piece in chunks(fd, there):
            self._hasher.update(piece)
            self.offset += len(piece)
        if there == size > 0:
            self._finish_leftovers()

    @translated
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. Raises `SizeMismatch` at the first byte too many, and forgets the blob."""
        fd = self._open()
        length = memoryview(data).nbytes
        if self.offset + length > self.descriptor.size:
            self._discard()
            raise SizeMismatch(expected=self.descriptor.size, actual=self.offset + length, at_least=True)
        write_all(fd, data, self.offset)
        self._hasher.update(data)
        self.offset += length
        self._upload.feed(fd, self.offset)

    @translated
    def restart(self) -> None:
        """Throw away what is here, e.g. because upstream ignored the Range.

        In another file: who follows the old one must not go on with bytes that may not fit to those before.
        """
        self._upload.abort()
        self._upload = self._pool.upload(self.descriptor.digest, self.descriptor.size)
        if os.fstat(self._open()).st_size:
            fd = self._files.replace(self.descriptor.digest)
            self._fd, old = fd, self._open()
            os.close(old)
        self.offset = 0
        self._hasher = hashlib.new(self.descriptor.digest.algorithm)

    @translated
    def commit(self) -> None:
        """Check size and digest, then move the blob into the pool and mark the repository.

        Raises `SizeMismatch` for a short body (what came is kept for the next writer), `DigestMismatch`
        for a wrong one (nothing is kept).
        """
        if self.complete:
            return
        fd = self._open()
        if self.offset != self.descriptor.size:
            raise SizeMismatch(expected=self.descriptor.size, actual=self.offset)
        if (actual := self._digest()) != self.descriptor.digest:
            self._discard()
            raise DigestMismatch(expected=self.descriptor.digest, actual=actual)
        os.fchmod(fd, 0o444)  # who follows it is told that it is whole before it is elsewhere
        looks_older = self._upload.complete(self._path, fd)
        self.complete = True
        self._adopt(looks_older)

    @translated
    def close(self) -> None:
        """Let the next one have the lock; an empty file is not worth keeping."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            self._upload.abort()
            if not self.complete and os.fstat(fd).st_size == 0 and is_same_file(fd, self._path):
                remove(self._path)
        finally:
            os.close(fd)

    def _finish_leftovers(self) -> None:
        """All bytes were there already: the predecessor died between the last write and its commit."""
        if self._digest() == self.descriptor.digest:
            self.commit()
        else:
            self.restart()

    def _discard(self) -> None:
        remove(self._path)
        self.close()

    def _digest(self) -> Digest:
        return Digest(f"{self.descriptor.digest.algorithm}:{self._hasher.hexdigest()}")

    def _open(self) -> int:
        if self._fd is None:
            raise RuntimeError("the incoming blob is closed: use it inside its `with` block, and once")
        return self._fd


def wait_for_turn(
    pool: Pool,
    files: IncomingFiles,
    descriptor: Descriptor,
    look: Callable[[], int | None],
    *,
    cancelled: Callable[[], bool],
    timeout: float | None,
) -> int | None:
    """The locked incoming file, or None as soon as the pool has the blob.

    `look` gives its size in the pool, `SIZE_NOT_TOLD`, or None when it is not there.
    Raises `WaitCancelled`, or `StoreLocked` after `timeout` seconds of somebody else filling it.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        if not files.is_being_written(descriptor.digest):  # while it is, the pool need not be asked
            turn = _try_turn(pool, files, descriptor, look)
            if turn is not _LATER:
                return turn
        if cancelled():
            raise WaitCancelled(f"cancelled while another writer was filling {descriptor.digest}")
        if deadline is not None and time.monotonic() >= deadline:
            raise StoreLocked(f"another writer has been filling {descriptor.digest} for {timeout:g} s")
        time.sleep(_POLL_SECONDS)


def _is_in(pool: Pool, descriptor: Descriptor, size: int | None) -> bool:
    if size is None:
        return False
    if size in (descriptor.size, SIZE_NOT_TOLD):
        return True
    if pool.is_intact(descriptor.digest):  # then it is the descriptor that is wrong
        raise SizeMismatch(expected=descriptor.size, actual=size)
    return False  # damaged: fetch it, and the commit replaces it


def _try_turn(
    pool: Pool, files: IncomingFiles, descriptor: Descriptor, look: Callable[[], int | None]
) -> int | None:
    """The locked file, None for a blob that is in the pool, or `_LATER`."""
    path = files.path(descriptor.digest)
    fd, found = files.open(descriptor.digest), _LATER
    try:
        # Moved into the pool, or thrown away, between our open and our lock: look again.
        if try_lock(fd) and is_same_file(fd, path):
            is_in = _is_in(pool, descriptor, look())
            if not is_in and _is_ours(fd):
                return fd
            remove(path)
            found = None if is_in else _LATER
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return found


def _is_ours(fd: int) -> bool:
    """A second name for the file would be a way to change content after it was verified."""
    found = os.fstat(fd)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
