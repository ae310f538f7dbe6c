"""`bytesPerSec`: token buckets over the bytes of blobs, shared by all threads of the process.

A run and what comes on demand open clients of their own for one registry entry, so a bucket is found by its
name. Clients that are gone leave none behind.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.upstream.connection.waits import Waits

_BURST: Final = 1.0  # seconds: what a link that was idle may send at once
_SLICE: Final = 0.25  # seconds: a slow link hands on small pieces, so that readers of a blob see it grow
_SMALLEST: Final = 1024  # bytes


class Bucket:
    """`rate` in bytes a second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._lock = Lock()
        self._paid = float("-inf")  # the time up to which bytes have been taken

    def delay(self, number: int, now: float) -> float:
        """Take `number` bytes; the seconds until they may pass."""
        with self._lock:
            self._paid = max(self._paid, now - _BURST) + number / self.rate
            return self._paid - now


class Bandwidth:
    """The buckets that bound one client: its registry entry's and the profile's."""

    def __init__(self, buckets: Sequence[Bucket] = ()) -> None:
        self._buckets = tuple(buckets)
        slowest = min((bucket.rate for bucket in self._buckets), default=0.0)
        self._piece = max(int(slowest * _SLICE), _SMALLEST)

    def paced(self, chunk: bytes | memoryview, waits: Waits) -> Iterator[bytes | memoryview]:
        """The pieces of `chunk`, each when it may pass. Raises `Stopped`."""
        if not self._buckets:
            yield chunk
            return
        for start in range(0, len(chunk), self._piece):
            piece = chunk[start : start + self._piece]
            now = waits.clock()
            wait = max(bucket.delay(len(piece), now) for bucket in self._buckets)
            if wait > 0:
                waits.sleep(wait)
            yield piece


_shared: WeakValueDictionary[tuple[str, float], Bucket] = WeakValueDictionary()
_lock = Lock()


def shared_bucket(name: str, rate: float) -> Bucket:
    """The process's bucket of this name; a changed rate makes a new one."""
    with _lock:
        found = _shared.get((name, rate))
        if found is None:
            found = _shared[name, rate] = Bucket(rate)
        return found
