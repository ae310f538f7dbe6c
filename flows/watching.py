"""Notice that a file was changed, cheaply, and not before whoever writes it has finished."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_Signature = tuple[int, int, int]


class FileWatch:
    """A file, and the files that it names. Ask `changed()` about once a second.

    A link is followed: a Secret that Kubernetes mounts changes by a link that leads to another folder.
    """

    def __init__(self, path: Path, named: Callable[[], Iterable[Path]] = tuple) -> None:
        """`named` is asked each time: a new text may name other files."""
        self._path, self._named = path, named
        self._seen = self._look()
        self._settled, self._content = dict(self._seen), {each: _content(each) for each in self._seen}

    def changed(self) -> bool:
        """True once for each new content, when the files have looked the same for two questions.

        Editors write in steps, or put another file in its place; a file that is missing for a moment
        is not a change, and neither is one that was only touched.
        """
        before, self._seen = self._seen, self._look()
        for path in self._seen.keys() - self._settled.keys():  # named since the last change
            self._settled[path], self._content[path] = self._seen[path], _content(path)
        if self._seen[self._path] is None or self._seen != before:
            return False
        moved = [path for path, found in self._seen.items() if found != self._settled[path]]
        previous = {path: self._content[path] for path in moved}
        self._settled |= {path: self._seen[path] for path in moved}
        self._content |= {path: _content(path) for path in moved}
        return any(self._content[path] != previous[path] for path in moved)

    def _look(self) -> dict[Path, _Signature | None]:
        return {path: _signature(path) for path in (self._path, *self._named())}


def _signature(path: Path) -> _Signature | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _content(path: Path) -> bytes | None:
    """Of a folder (certDir), the names and the content of its files."""
    digest = hashlib.sha256()
    try:
        for each in sorted(path.iterdir()) if path.is_dir() else [path]:
            if each.is_file():
                digest.update(each.name.encode() + b"\0" + each.read_bytes())
        return digest.digest()
    except OSError:
        return None
