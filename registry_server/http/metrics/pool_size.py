"""How many bytes a pool has: a walk through all blobs, so one at a time, and not too often."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SECONDS = 60.0
_SHARE = 100  # at most one part in so many of the time is spent walking


class PoolSize:
    """Of one storage root; safe to share between threads. `clock` gives seconds."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool, self._clock = root / "blobs", clock
        self._walking = threading.Lock()
        self._found: int | None = None
        self._next = 0.0

    def bytes(self) -> int | None:
        """As of the last walk, which is up to a minute old or, in a very large store, older.

        None as long as the first one is under way elsewhere, and when the pool cannot be read.
        """
        if self._clock() >= self._next and self._walking.acquire(blocking=False):
            try:
                self._walk()
            finally:
                self._walking.release()
        return self._found

    def _walk(self) -> None:
        began = self._clock()
        try:
            self._found = sum(_sizes(self._pool))
        except OSError:  # /readyz says so
            self._found = None
        now = self._clock()
        self._next = now + max(_SECONDS, _SHARE * (now - began))


def _sizes(folder: os.PathLike[str]) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry)
                continue
            try:
                yield entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # collected meanwhile
                continue
