"""When what was written has to be on the disk: `full`, `batch` or `none`.

full    every file and every name, at once.
batch   content before it gets its name in the pool; all names and markers in one phase before a tag.
none    whenever the kernel pleases: for tests, and for caches that may be lost with the machine.

Why batch still syncs each blob's content: after a power cut a pool file whose bytes never reached the
disk would be taken for the blob that its name promises (invariant 2), tagged or not.
Why its phase is `syncfs` and not a list of what we wrote: an image may stand on a blob that another
process put into the pool a moment ago and has not synced, and of that no list of ours knows.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Literal

Durability = Literal["full", "batch", "none"]


class Flusher:
    """Applies one durability to the storage root `root`; safe to share between threads."""

    def __init__(self, root: str, durability: Durability) -> None:
        self._at_once = durability == "full"
        self._content = durability != "none"
        self._phase = SharedSync(root) if durability == "batch" else None

    def content(self, fd: int) -> None:
        """Before a blob or manifest gets its name in the pool."""
        if self._content:
            os.fsync(fd)

    def record(self, fd: int) -> None:
        """Before a small file that can be written again gets its name."""
        if self._at_once:
            os.fsync(fd)

    def folder(self, path: str) -> None:
        """After a name in the folder `path` was made, replaced or removed."""
        if self._at_once:
            _sync_folder(path)

    def phase(self) -> None:
        """After a return, everything that was written to the root before the call is on the disk."""
        if self._phase is not None:
            self._phase()


class SharedSync:
    """`syncfs`, one call for all threads that ask while another one runs."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._changed = threading.Condition()
        self._running = False
        self._started = 0
        self._finished = 0

    def __call__(self) -> None:
        """Raises OSError when the kernel could not write something back."""
        with self._changed:
            # A sync that is running now may have passed our files already: the next one counts.
            wanted = self._started + 1
            while self._finished < wanted:
                if self._running:
                    self._changed.wait()
                else:
                    self._lead()

    def _lead(self) -> None:
        self._running = True
        self._started += 1
        mine = self._started
        self._changed.release()
        try:
            _sync_filesystem(self._root)
        except BaseException:
            mine = 0  # who waited for us tries for himself, and sees the error too
            raise
        finally:
            self._changed.acquire()
            self._running = False
            self._finished = max(self._finished, mine)
            self._changed.notify_all()


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_libc = ctypes.CDLL(None, use_errno=True)


def _sync_filesystem(path: str) -> None:
    if not hasattr(_libc, "syncfs"):
        os.sync()
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(fd)
