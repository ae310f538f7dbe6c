"""What nobody will go on with: old incoming blobs, upload sessions, files that were never given a name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from registry_server.store import disk as files
from registry_server.store.locks import is_same_file, try_lock
from registry_server.store.verdicts import Removal

if TYPE_CHECKING:
    from collections.abc import Iterator


def leftovers(root: str, before: float) -> Iterator[tuple[Removal, str]]:
    """Files that were last written before the unix time `before`, with their paths."""
    for kind, why in (
        ("incoming", "a blob that never became whole"),
        ("staging", "of a writer that is gone"),
    ):
        for name in files.names(f"{root}/{kind}"):
            path = f"{root}/{kind}/{name}"
            found = _old_file(path, before)
            if found is not None:
                yield Removal("leftover", f"{kind}/{name}", why, found), path


def remove_leftover(path: str, before: float) -> bool:
    """Remove one, unless somebody is writing to it; whether it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone, a link, or read-only as the intents in staging/ are
        return _old_file(path, before) is not None and _removed(path)
    try:
        if not try_lock(fd) or not is_same_file(fd, path) or os.fstat(fd).st_mtime >= before:
            return False
        return _removed(path)
    finally:
        os.close(fd)


def _removed(path: str) -> bool:
    files.remove(path)
    return True


def _old_file(path: str, before: float) -> int | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_size if found.st_mtime < before and not os.path.isdir(path) else None  # noqa: PTH112 - texts
