"""Blobs on their way into a repository: taken from the pool, received, or put; and then marked."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch, SizeMismatch
from registry_server.store.errors import StoreUnreachable, translated
from registry_server.store.pool.blob_pool import SIZE_NOT_TOLD, blob_key
from registry_server.store.repository_reader import RepositoryReader
from registry_server.store.spool.incoming_blob import IncomingBlob, wait_for_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.pool.brought import Begun
    from registry_server.store.spool.incoming_files import IncomingFiles


class BlobReceiver(RepositoryReader):
    """A repository that takes blobs. Cheap to make, safe to share between threads and processes."""

    @translated
    def adopt_blob(self, digest: Digest, *, size: int | None = None) -> bool:
        """Take a blob that the pool already has; False when it must be fetched.

        `size`: what somebody says that it has. False for one of another size too: `receive_blob` tells why.
        """
        if self._memory.was_absent(blob_key(digest)):
            return False
        if self._adopted(digest) is None:
            self._memory.seen_absent(blob_key(digest))
            return False
        return size is None or self._pool.size(digest) == size

    def has_marked(self, digest: Digest) -> bool:
        """Whether this process has put the blob here a moment ago. Asks nobody."""
        return self._pool.trash.is_marked(self._blob_key(digest))

    def _adopted(self, digest: Digest) -> int | None:
        """As `Trash.adopt`."""
        key, brought = self._blob_key(digest), self._root.brought
        begun = brought.begun(self._folder)
        size = self._pool.trash.adopt(digest, key)
        if size is not None and size != SIZE_NOT_TOLD:  # then it was marked before, and maybe before `begun`
            brought.note(begun, key)
        return size

    def _looked_up(self, digest: Digest) -> int | None:
        """As `Trash.adopt`, and the pool is asked whatever is remembered."""
        return self._pool.size(digest) if self.has_marked(digest) else self._adopted(digest)

    def _begin(self) -> Begun | None:
        return self._root.brought.begin(self._folder, self.turn)

    @translated
    def renew_blob(self, digest: Digest) -> None:
        """Make the marker of a blob young, if there is one."""
        self._objects.renew(self._blob_key(digest))

    @contextlib.contextmanager
    def receive_blob(
        self,
        descriptor: Descriptor,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        timeout: float | None = None,
    ) -> Iterator[IncomingBlob]:
        """Fill a blob: write what is missing from `offset` on, then commit. One writer a digest at a time.

        Waits for another writer, up to `timeout` seconds; then `complete` is true, or it is our turn.
        Raises `StoreLocked`, `WaitCancelled`, `SizeMismatch` (the pool has that digest, with another size).
        """
        incoming = self._incoming(descriptor, cancelled, timeout)
        try:
            yield incoming
        finally:
            incoming.close()

    @translated
    def put_blob(self, descriptor: Descriptor, content: bytes) -> None:
        """A small blob that is in memory. Raises `SizeMismatch`, `DigestMismatch`."""
        _check(descriptor, content)
        self._begin()  # before the turn that `put` takes
        self._pool.put(descriptor.digest, content, partial(self._mark_received, descriptor.digest))

    @translated
    def stage(self, descriptor: Descriptor, content: bytes) -> None:
        """As `put_blob`, for a manifest that is put later, by whoever holds a lease until then.

        In object storage its record is its only marker, so nobody can read it here before.
        """
        if self._root.is_local:
            self.put_blob(descriptor, content)
        else:
            _check(descriptor, content)
            self._pool.put(descriptor.digest, content, lambda: None)

    @translated
    def staged(self, digest: Digest, *, at_most: int) -> bytes | None:
        """What was staged, here or by another process of the run; it is no right to read.

        None for what is not there, has more bytes than `at_most`, or is damaged.
        """
        if self._root.is_local:
            return self.small_blob(digest, at_most=at_most)
        return self.staged_lately(digest) or self.pool_content(digest, at_most=at_most)

    def staged_lately(self, digest: Digest) -> bytes | None:
        """As `staged`, where this process remembers it. Asks nobody."""
        return self._pool.trash.put_lately(digest)

    @translated
    def adopt_upload(self, digest: Digest, fd: int, path: str) -> None:
        """Make the file `path` of the spool, verified and open as `fd`, the blob `digest`.

        It has moved then, unless the pool had the blob.
        """
        if self._pool.size(digest) == os.fstat(fd).st_size and self.adopt_blob(digest):
            return
        self._mark_received(digest, self._pool.take_in(digest, path, fd))

    @translated
    def _incoming(
        self, descriptor: Descriptor, cancelled: Callable[[], bool], timeout: float | None
    ) -> IncomingBlob:
        files, digest = self._incoming_files, descriptor.digest
        # What the pool has may be on its way out: it is held on to, or fetched.
        look = partial(self._looked_up if self._pool.trash.marks_suffice else self._pool.size, digest)
        while True:
            fd = wait_for_turn(self._pool, files, descriptor, look, cancelled=cancelled, timeout=timeout)
            if fd is not None or self._adopted(digest) is not None:
                break
        mark = partial(self._mark_received, descriptor.digest)
        incoming = IncomingBlob(self._pool, files, descriptor, fd, mark)
        try:
            incoming.resume()
        except BaseException:
            incoming.close()
            raise
        return incoming

    @property
    def _incoming_files(self) -> IncomingFiles:
        return self._root.incoming

    def _mark_received(self, digest: Digest, looks_older: float = 0.0) -> None:
        """`looks_older`: seconds, as `Objects.take_in` gives them."""
        begun, trash, marker = self._begin(), self._pool.trash, self._blob_key(digest)
        if looks_older <= trash.spared_seconds / 2:
            trash.mark(marker)
        else:  # a collector may have taken it for an old one that nobody needs
            trash.forget(digest, marker)
            if trash.adopt(digest, marker) is None:
                raise StoreUnreachable(
                    f"{digest} was collected after it had been uploaded for {looks_older:.0f} s; run it "
                    "again, and set storage.gcDelay to more than an upload takes"
                )
        self._memory.forget(blob_key(digest))
        self._root.brought.note(begun, self._blob_key(digest))


def _check(descriptor: Descriptor, content: bytes) -> None:
    if len(content) != descriptor.size:
        raise SizeMismatch(expected=descriptor.size, actual=len(content))
    if (actual := Digest.of(content, descriptor.digest.algorithm)) != descriptor.digest:
        raise DigestMismatch(expected=descriptor.digest, actual=actual)
