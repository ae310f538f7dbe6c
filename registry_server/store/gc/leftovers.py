"""What nobody will go on with: old incoming blobs, upload sessions, files that were never given a name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_server.store.filesystem import disk as files
from registry_server.store.filesystem.locks import is_same_file, try_lock
from registry_server.store.gc.gc_report import Removal
from registry_server.store.storage_root import STALE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that was last written before the unix time `before`."""

    path: str
    removal: Removal
    before: float

    def remove(self) -> bool:
        """Whether it is gone; not, when somebody writes to it."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # a link, or something that we may not write
            files.remove(self.path)
            return True
        try:
            if not try_lock(fd) or not is_same_file(fd, self.path) or os.fstat(fd).st_mtime >= self.before:
                return False
            files.remove(self.path)
        finally:
            os.close(fd)
        return True


def leftovers(root: str, before: float, *, now: float) -> Iterator[Leftover]:
    """What is older than `before`. Nobody locks what is in staging/: that gets its time in any case."""
    for kind, limit, why in (
        ("incoming", before, "an incomplete blob"),
        ("staging", min(before, now - STALE_SECONDS), "left by a writer that has ended"),
    ):
        for name in files.names(f"{root}/{kind}"):
            size = _old_file(f"{root}/{kind}/{name}", limit)
            if size is not None:
                yield Leftover(
                    f"{root}/{kind}/{name}", Removal("leftover", f"{kind}/{name}", why, size), limit
                )


def _old_file(path: str, before: float) -> int | None:
    """Bytes of a file that is older; None for a younger one, or a folder."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_size if found.st_mtime < before and not os.path.isdir(path) else None  # noqa: PTH112 - texts
