"""Blobs on their way out: `trash/<epoch>/<algorithm>-<hex>`, until the next garbage collection.

Who misses a blob in the pool looks here and puts it back, so that a collector that was wrong about a blob
for a moment is never noticed (see gc/collector.py).
"""

# Texts instead of Path objects: see filesystem/disk.py.
# ruff: noqa: PTH103, PTH104, PTH106

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from registry_server.store.filesystem.disk import file_size, is_file, names, remove

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class Trash:
    """The trash of one storage root. Methods raise OSError."""

    def __init__(self, root: str) -> None:
        self._folder = f"{root}/trash"

    def epochs(self) -> list[int]:
        """Oldest first."""
        return sorted(int(name) for name in names(self._folder) if name.isdecimal())

    def content(self, epoch: int) -> Iterator[tuple[str, str]]:
        """Name (`sha256-<hex>`) and path of what one collection threw away."""
        for name in names(f"{self._folder}/{epoch}"):
            yield name, f"{self._folder}/{epoch}/{name}"

    def open(self, epoch: int) -> None:
        os.makedirs(f"{self._folder}/{epoch}", exist_ok=True)

    def take(self, path: str, name: str, epoch: int) -> bool:
        """Move a pool file here; False when it is gone."""
        try:
            os.rename(path, f"{self._folder}/{epoch}/{name}")
        except FileNotFoundError:
            return False
        return True

    def give_back(self, name: str, path: str) -> bool:
        """Put a blob back to `path`; whether any epoch had it. Never replaces what is there by now."""
        for epoch in reversed(self.epochs()):
            trashed = f"{self._folder}/{epoch}/{name}"
            if is_file(trashed) and _link(trashed, path):
                remove(trashed)
                return True
        return False

    def holds(self, name: str) -> bool:
        return any(is_file(f"{self._folder}/{epoch}/{name}") for epoch in self.epochs())

    def tidy(self) -> None:
        """Remove folders that are empty by now."""
        for epoch in self.epochs():
            with contextlib.suppress(OSError):
                os.rmdir(f"{self._folder}/{epoch}")
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)

    def size(self) -> tuple[int, int]:
        """Blobs and bytes."""
        sizes = [file_size(path) or 0 for epoch in self.epochs() for _, path in self.content(epoch)]
        return len(sizes), sum(sizes)


def _link(trashed: str, path: str) -> bool:
    try:
        os.link(trashed, path, follow_symlinks=False)
    except FileExistsError:
        return True  # another one was faster, or brought it anew
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _NOT_WRITABLE:  # a read-only store: nobody collects there either
            return False
        raise
    return True
