"""Where workers keep their counts. Apart from prometheus.py: it is to be there before that is imported.

Not in the store: the counts are mapped into memory, and a page that a full disk has no room for kills the
process. So a server that was killed leaves its folder in the temporary one, for the next start to remove.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from registry_server.store.filesystem.locks import is_same_file, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "mirrorflow-metrics-"
_LOCK = "lock"  # held by a server and its workers: nobody who lives loses his folder


@contextlib.contextmanager
def shared_folder() -> Iterator[None]:
    """Where the workers that are started meanwhile keep their counts; gone afterwards."""
    before = os.environ.get(_VARIABLE)
    _remove_left_behind(Path(tempfile.gettempdir()))
    folder, fd = _own_folder()
    os.environ[_VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE, None)
        if before is not None:
            os.environ[_VARIABLE] = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def _own_folder() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if try_lock(fd) and is_same_file(fd, str(folder / _LOCK)):
            return folder, fd
        os.close(fd)  # another server that starts took it for one that was left behind


def _remove_left_behind(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # of somebody else, or gone already
            if _is_ours(folder) and _is_left_behind(folder / _LOCK):
                shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _is_left_behind(lock: Path) -> bool:
    fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return try_lock(fd)
    finally:
        os.close(fd)
