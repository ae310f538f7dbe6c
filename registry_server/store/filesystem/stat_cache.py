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
from registry_server.store.filesystem.sorted_names import SortedNames

if TYPE_CHECKING:
    from collections.abc import Callable

    Identity = tuple[int, int, int, int]
    Held = tuple[Identity, Any, int]

Value = TypeVar("Value")

_LIMIT: Final = 4 * 1024 * 1024  # bytes, twice: of what was used lately, and of what was used before
_ENTRY: Final = 800  # bytes that a file takes in memory beside its content
_LISTINGS: Final = 32 * 1024 * 1024  # bytes, twice: listings of folders
_SETTLED: Final = 1.0  # seconds; a tick is some 10 milliseconds at most


class StatCache:
    """Values made of files, and the names in folders, by path.

    `limit` (files) and `listings` (folders) in bytes of memory, `clock` in unix seconds. A listing beyond the
    limit is kept as well: making one takes ten times its memory. Shared by threads: those that come at the
    same time each read.
    """

    def __init__(
        self, limit: int = _LIMIT, clock: Callable[[], float] = time.time, *, listings: int = _LISTINGS
    ) -> None:
        self._files, self._listings = _Generations(limit, largest=limit // 2), _Generations(listings)
        self._clock = clock

    def file(self, path: str, parse: Callable[[bytes], Value | None]) -> Value | None:
        """What `parse` makes of a file: always the same of the same bytes. None: no regular file.

        Raises OSError, and what `parse` raises.
        """
        identity = _identity(path, stat.S_IFREG)
        held: Value | None = self._files.get(path, identity)
        if held is not None or identity is None:
            return held
        content = read(path)
        found = None if content is None else parse(content)
        if found is not None and self._is_settled(identity):
            self._files.keep(path, (identity, found, _ENTRY + len(content or b"")))
        return found

    def folder(self, path: str, wanted: Callable[[str], bool]) -> SortedNames | None:
        """The names in a folder that are `wanted`: always the same of the same names. None: no folder.

        Raises OSError.
        """
        identity = _identity(path, stat.S_IFDIR)
        held: SortedNames | None = self._listings.get(path, identity)
        if held is not None or identity is None:
            return held
        found = SortedNames.of(filter(wanted, names(path)))
        if self._is_settled(identity):
            self._listings.keep(path, (identity, found, _ENTRY + found.memory))
        return found

    def _is_settled(self, identity: Identity) -> bool:
        return self._clock() - max(identity[2:]) / 1e9 > _SETTLED


class _Generations:
    """What was used lately, and what was used before: when the first is full, it takes the other's place."""

    def __init__(self, limit: int, *, largest: int | None = None) -> None:
        self._limit, self._largest = limit, largest
        self._bytes = 0
        self._recent: dict[str, Held] = {}
        self._older: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def get(self, path: str, identity: Identity | None) -> Any:
        held = self._recent.get(path)
        if held is not None and held[0] == identity:
            return held[1]
        held = self._older.get(path)
        if held is not None and held[0] == identity:
            self.keep(path, held)
            return held[1]
        return None

    def keep(self, path: str, held: Held) -> None:
        size = held[2]
        if self._largest is not None and size > self._largest:
            return
        if self._bytes + size > self._limit:
            self._older, self._recent, self._bytes = self._recent, {}, 0
        self._recent[path] = held
        self._bytes += size


def _identity(path: str, kind: int) -> Identity | None:
    """Inode, size, and when content and inode changed (ns); None when there is nothing of that kind."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_IFMT(found.st_mode) != kind:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
