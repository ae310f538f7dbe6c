"""Notice that a file was changed, cheaply, and not before whoever writes it has finished."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_Signature = tuple[int, int, int]


class FileWatch:
    """Ask `changed()` about once a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature = self._settled = _signature(path)
        self._content = _content(path)

    def changed(self) -> bool:
        """True once for each new content, when the file has looked the same for two questions.

        Editors write in steps, or put another file in its place; a file that is missing for a moment
        is not a change, and neither is one that was only touched.
        """
        before, self._signature = self._signature, _signature(self._path)
        if self._signature is None or self._signature != before or self._signature == self._settled:
            return False
        self._settled = self._signature
        previous, self._content = self._content, _content(self._path)
        return self._content != previous


def _signature(path: Path) -> _Signature | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _content(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
