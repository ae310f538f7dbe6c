"""Uploading a local file into a bucket while it is still written. Nothing is visible before it was verified.

A thread runs obstore's multipart upload, which takes the parts from an iterator. What the iterator raises
aborts the upload.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from registry_server.store.objects.file_parts import FileParts, UploadSlots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_server.store.objects.objects import Objects

    PutParts = Callable[[str, Iterator[bytes], int], object]
    """Key, pieces, and the size of a part."""


class ArrivingUpload:
    """`Upload` into a bucket. A file that is one part goes by one PUT, once it is complete."""

    def __init__(self, objects: Objects, key: str, size: int, slots: UploadSlots, put: PutParts) -> None:
        self._objects, self._key, self._put = objects, key, put
        self._parts = FileParts(f"{objects.where}/{key}", size, slots)
        self._thread: threading.Thread | None = None
        self._began = 0.0
        self._next = self._parts.part if size > self._parts.part else size + 1
        self._failed = True

    def feed(self, fd: int, written: int) -> None:
        """See `Upload`. Only what makes a part whole is news for the uploading thread."""
        if written < self._next:
            return
        self._next = written - written % self._parts.part + self._parts.part
        self._parts.grown(written)
        if self._thread is None:
            self._began = time.monotonic()
            thread = threading.Thread(target=self._upload, args=(fd,), name="upload", daemon=True)
            thread.start()
            self._thread = thread

    def complete(self, path: str, fd: int) -> float:
        """See `Upload`. What failed while the file arrived is uploaded again, and that raises its error."""
        if self._thread is not None:
            self._parts.verified()
            self._thread.join()
        if self._failed:
            return self._objects.take_in(self._key, path, fd)
        os.unlink(path)  # noqa: PTH108 - texts, as in all of the store
        return time.monotonic() - self._began

    def abort(self) -> None:
        """See `Upload`. Waits for the thread: it reads a file that the caller is about to close."""
        self._parts.abort()
        if self._thread is not None:
            self._thread.join()

    def _upload(self, fd: int) -> None:
        try:
            self._put(self._key, self._parts.pieces(fd), self._parts.part)
        except MirrorflowError:
            return  # aborted, or told by the second attempt
        self._failed = False
