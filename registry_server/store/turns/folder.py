"""Turns by locks on files: for the processes of one host, and of all that share the file system.

A turn locks the file of its name; a role locks `locks/<role>`, which says who holds it. A lease is a file
`leases/<pid>-<random>` that its holder keeps locked, so that it ends with its process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from registry_server.store import records
from registry_server.store.errors import StoreLocked, translated
from registry_server.store.filesystem import disk as files
from registry_server.store.filesystem.locks import is_locked, lock_alone, lock_among_others, try_lock
from registry_server.store.filesystem.process_identity import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from registry_server.store.filesystem.disk import Disk

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class FolderTurns:
    """`Turns` on the files of a disk. Methods raise OSError, but for `claim` and `lease`: `StoreError`."""

    def __init__(self, disk: Disk, now: Callable[[], float] | None = None) -> None:
        """`now`: the clock of the objects, where that is not the clock of the disk."""
        self._disk, self._now = disk, now

    def alone(self, name: str) -> AbstractContextManager[None]:
        return lock_alone(self._disk, f"{self._disk.root}/{name}")

    def among_others(self, name: str) -> AbstractContextManager[None]:
        return lock_among_others(self._disk, f"{self._disk.root}/{name}")

    @contextlib.contextmanager
    def claim(self, role: str) -> Iterator[None]:
        fd = self._claimed(role)
        try:
            yield
        finally:
            os.close(fd)  # the file stays: removing it would let two hold the same role

    def is_claimed(self, role: str) -> bool:
        try:
            fd = self._disk.open_in(self._path(role), os.O_RDWR, 0)
        except FileNotFoundError:
            return False
        try:
            return is_locked(fd)
        finally:
            os.close(fd)

    def claimant(self, role: str) -> ProcessIdentity | None:
        """None too when the holder could not write down who it is."""
        if not self.is_claimed(role):
            return None
        return records.decoded(files.read(self._path(role)), ProcessIdentity.from_json)

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        fd, path = self._begin_lease()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                files.remove(path)
            os.close(fd)

    def oldest_lease(self) -> float | None:
        """Leases of processes that are gone are removed."""
        folder = f"{self._disk.root}/leases"
        began = [_began(f"{folder}/{name}") for name in files.names(folder)]
        oldest = min((each for each in began if each is not None), default=None)
        if oldest is None or self._now is None:
            return oldest
        now = self._now()  # before the other clock is read: rather too early than too late
        return now - (files.clock(f"{self._disk.root}/staging") - oldest)

    def _path(self, role: str) -> str:
        return f"{self._disk.root}/locks/{quote(role, safe='')}"

    @translated
    def _claimed(self, role: str) -> int:
        path = self._path(role)
        fd = self._disk.open_in(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not try_lock(fd):
                raise self._held(role, path)
            _write_holder(fd, records.encode({**ProcessIdentity.current().to_json(), "since": time.time()}))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _held(self, role: str, path: str) -> StoreLocked:
        holder = records.decoded(files.read(path), ProcessIdentity.from_json)
        return StoreLocked(
            f"{holder or 'another process'} already holds the role {role!r} in the store {self._disk.root}; "
            "end it first, or give this one another storage.rootDirectory",
            holder=holder,
        )

    @translated
    def _begin_lease(self) -> tuple[int, str]:
        path = f"{self._disk.root}/leases/{os.getpid()}-{secrets.token_hex(8)}"
        fd = self._disk.open_in(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        # A collector that saw the file before it was locked has removed it as a dead one's: make it again.
        if not try_lock(fd) or not files.is_file(path):
            os.close(fd)
            return self._begin_lease()
        return fd, path


def _write_holder(fd: int, holder: bytes) -> None:
    """Who holds it is a courtesy: a full disk must not keep the one away who would make room."""
    try:
        os.ftruncate(fd, 0)
        files.write_all(fd, holder, 0)
    except OSError as error:
        if error.errno not in _FULL:
            raise


def _began(path: str) -> float | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if try_lock(fd):
            files.remove(path)
            return None
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)
