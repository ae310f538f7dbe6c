"""Cache of parsed files and folder listings, validated by inode, size, mtime and ctime.

Files of the store are never written in place: whoever changes one puts another in its place, so inode, size
and times tell. They tell nothing of two changes within one tick of the file system's clock: what was changed
a moment ago is read again.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from registry_server.store.filesystem.disk import names, read

if TYPE_CHECKING:
    from collections.abc import Callable

    Identity = tuple[int, int, int, int]

Value = TypeVar("Value")

_LIMIT: Final = 4 * 1024 * 1024  # bytes, twice: of what was used lately, and of what was used before
_ENTRY: Final = 800  # bytes that a file takes in memory beside its content, and
_NAME: Final = 80  # a name in a folder, roughly
_SETTLED: Final = 1.0  # seconds; a tick is some 10 milliseconds at most


class StatCache:
    """Values made of files and folders, by path. `limit` in bytes of memory, `clock` in unix seconds.

    Shared by threads: who comes at the same time reads as well.
    """

    def __init__(self, limit: int = _LIMIT, clock: Callable[[], float] = time.time) -> None:
        self._limit, self._clock = limit, clock
        self._recent: dict[str, tuple[Identity, Any, int]] = {}
        self._older: dict[str, tuple[Identity, Any, int]] = {}
        self._bytes = 0

    def file(self, path: str, parse: Callable[[bytes], Value | None]) -> Value | None:
        """What `parse` makes of a file: always the same of the same bytes. None: no regular file.

        Raises OSError, and what `parse` raises.
        """
        identity = _identity(path, stat.S_IFREG)
        held: Value | None = self._held(path, identity)
        if held is not None or identity is None:
            return held
        content = read(path)
        found = None if content is None else parse(content)
        self._keep(path, identity, found, _ENTRY + len(content or b""))
        return found

    def folder(self, path: str, parse: Callable[[list[str]], Value]) -> Value | None:
        """What `parse` makes of the names in a folder, which come in no order. None: no folder.

        Raises OSError.
        """
        identity = _identity(path, stat.S_IFDIR)
        held: Value | None = self._held(path, identity)
        if held is not None or identity is None:
            return held
        listed = names(path)
        found = parse(listed)
        self._keep(path, identity, found, _NAME * len(listed))
        return found

    def _held(self, path: str, identity: Identity | None) -> Any:
        held = self._recent.get(path)
        if held is not None and held[0] == identity:
            return held[1]
        held = self._older.get(path)
        if held is not None and held[0] == identity:
            self._keep(path, *held)
            return held[1]
        return None

    def _keep(self, path: str, identity: Identity, value: object, size: int) -> None:
        if value is None or size > self._limit // 2 or not self._is_settled(identity):
            return
        if self._bytes + size > self._limit:
            self._older, self._recent, self._bytes = self._recent, {}, 0
        self._recent[path] = (identity, value, size)
        self._bytes += size

    def _is_settled(self, identity: Identity) -> bool:
        return self._clock() - max(identity[2:]) / 1e9 > _SETTLED


def _identity(path: str, kind: int) -> Identity | None:
    """Inode, size, and when content and inode changed (ns); None when there is nothing of that kind."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_IFMT(found.st_mode) != kind:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
