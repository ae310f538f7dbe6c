"""Leases: who is in the middle of something long says so, and nothing newer than that is collected.

A lease is a file `leases/<pid>-<random>` that its holder keeps locked, so that it ends with its process.
Without one, what no manifest names yet is safe for the collector's delay only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from registry_server.store.errors import translated
from registry_server.store.filesystem import disk as files
from registry_server.store.filesystem.locks import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry_server.store.filesystem.disk import Disk


@contextlib.contextmanager
def lease(disks: Sequence[Disk]) -> Iterator[None]:
    """Protect, in these roots, whatever is written from now on, until the block ends."""
    with contextlib.ExitStack() as held:
        for disk in disks:
            held.callback(_end, *_begin(disk))
        yield


def oldest_lease(root: str) -> float | None:
    """When the oldest lease that is held began, by the clock of the store; None when there is none.

    Leases of processes that are gone are removed. Raises OSError: then nothing is known.
    """
    began = [_began(f"{root}/leases/{name}") for name in files.names(f"{root}/leases")]
    return min((each for each in began if each is not None), default=None)


@translated
def _begin(disk: Disk) -> tuple[int, str]:
    path = f"{disk.root}/leases/{os.getpid()}-{secrets.token_hex(8)}"
    fd = disk.open_in(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    # A collector that saw the file before it was locked has removed it as a dead one's: make it again.
    if not try_lock(fd) or not files.is_file(path):
        os.close(fd)
        return _begin(disk)
    return fd, path


def _end(fd: int, path: str) -> None:
    with contextlib.suppress(OSError):
        files.remove(path)
    os.close(fd)


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
