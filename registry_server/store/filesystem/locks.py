"""Open-file-description locks: between processes and between threads, gone with whoever held them.

Unlike flock they can be asked about without being taken, and unlike POSIX locks they survive the closing
of another descriptor of the same file (tried out; see DECISIONS.md).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from registry_server.store import records
from registry_server.store.errors import StoreLocked, translated
from registry_server.store.filesystem.disk import read, write_all
from registry_server.store.filesystem.process_identity import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_server.store.filesystem.disk import Disk

# struct flock: type, whence, start, length (0: to the end), pid (0 is required for OFD locks).
_FLOCK: Final = "hhqqi4x"
_WHOLE_FILE: Final = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_QUEUE_BYTE, _LOCK_BYTE = 0, 1


def try_lock(fd: int) -> bool:
    """Lock the file until `fd` is closed; False when somebody else holds it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def is_same_file(fd: int, path: str) -> bool:
    """Whether `path` still names what was opened: it may have been moved while one waited for the lock."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), found)


@contextlib.contextmanager
def shared(disk: Disk, path: str) -> Iterator[None]:
    """Shared lock: any number of holders, none while the lock is held as `exclusive`. Raises OSError."""
    with _lock_file(disk, path) as fd:
        _wait(fd, fcntl.F_RDLCK, _QUEUE_BYTE)
        _wait(fd, fcntl.F_RDLCK, _LOCK_BYTE)
        _wait(fd, fcntl.F_UNLCK, _QUEUE_BYTE)
        yield


@contextlib.contextmanager
def exclusive(disk: Disk, path: str) -> Iterator[None]:
    """Exclusive lock: waits for `shared` holders and blocks new ones. Raises OSError.

    Two bytes are locked: with one, frequent shared holders could keep the exclusive one waiting for ever.
    """
    with _lock_file(disk, path) as fd:
        _wait(fd, fcntl.F_WRLCK, _QUEUE_BYTE)
        _wait(fd, fcntl.F_WRLCK, _LOCK_BYTE)
        yield


@contextlib.contextmanager
def _lock_file(disk: Disk, path: str) -> Iterator[int]:
    fd = disk.open_in(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)


def _wait(fd: int, kind: int, byte: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0))


@contextlib.contextmanager
def claim(disk: Disk, role: str) -> Iterator[None]:
    """Hold a role in the whole store. Raises `StoreLocked` with the holder."""
    fd = _claimed(disk, role)
    try:
        yield
    finally:
        os.close(fd)  # the file stays: removing it would let two hold the same role


def is_claimed(disk: Disk, role: str) -> bool:
    """Whether somebody holds the role. Looks at the lock without taking it (F_OFD_GETLK)."""
    try:
        fd = disk.open_in(_path(disk, role), os.O_RDWR, 0)
    except FileNotFoundError:
        return False
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE_FILE)
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)
    finally:
        os.close(fd)


def claimant(disk: Disk, role: str) -> ProcessIdentity | None:
    """The process that holds the role; None when none does, or when it could not write down who it is."""
    if not is_claimed(disk, role):
        return None
    return records.decoded(read(_path(disk, role)), ProcessIdentity.from_json)


def _path(disk: Disk, role: str) -> str:
    return f"{disk.root}/locks/{quote(role, safe='')}"


@translated
def _claimed(disk: Disk, role: str) -> int:
    path = _path(disk, role)
    fd = disk.open_in(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not try_lock(fd):
            raise _held(disk, role, path)
        holder = records.encode({**ProcessIdentity.current().to_json(), "since": time.time()})
        _write_holder(fd, holder)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write_holder(fd: int, holder: bytes) -> None:
    """Who holds it is a courtesy: a full disk must not keep the one away who would make room."""
    try:
        os.ftruncate(fd, 0)
        write_all(fd, holder, 0)
    except OSError as error:
        if error.errno not in _FULL:
            raise


def _held(disk: Disk, role: str, path: str) -> StoreLocked:
    holder = records.decoded(read(path), ProcessIdentity.from_json)
    return StoreLocked(
        f"{holder or 'another process'} already holds the role {role!r} in the store {disk.root}; end it "
        "first, or give this one another storage.rootDirectory",
        holder=holder,
    )
