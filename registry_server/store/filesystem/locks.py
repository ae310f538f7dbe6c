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
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_server.store.filesystem.disk import Disk

# struct flock: type, whence, start, length (0: to the end), pid (0 is required for OFD locks).
_FLOCK: Final = "hhqqi4x"
_WHOLE_FILE: Final = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
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


def is_locked(fd: int) -> bool:
    """Whether somebody else holds the file's lock. Looks without taking it: nobody is disturbed."""
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE_FILE)
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def is_same_file(fd: int, path: str) -> bool:
    """Whether `path` still names what was opened: it may have been moved while one waited for the lock."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), found)


@contextlib.contextmanager
def lock_among_others(disk: Disk, path: str) -> Iterator[None]:
    """Shared lock: any number of holders, none while somebody has `lock_alone`. Raises OSError."""
    with _lock_file(disk, path) as fd:
        _wait(fd, fcntl.F_RDLCK, _QUEUE_BYTE)
        _wait(fd, fcntl.F_RDLCK, _LOCK_BYTE)
        _wait(fd, fcntl.F_UNLCK, _QUEUE_BYTE)
        yield


@contextlib.contextmanager
def lock_alone(disk: Disk, path: str) -> Iterator[None]:
    """Exclusive lock: waits for the shared holders and blocks new ones. Raises OSError.

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
