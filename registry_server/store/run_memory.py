"""What a process remembers of a store in object storage while it holds a lease: a question is a request.

It is what others may change: the tags of a repository, its markers, poll records. It is good for deciding
what to do, as it could also change a moment after a look; nothing is published by it. It is some seconds old,
or longer where to ask takes seconds; what the process changes itself it knows at once.

A store in a folder remembers nothing here: it is asked faster than this.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cachetools import TLRUCache, TTLCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Value = TypeVar("Value")

_SECONDS: Final = 10.0
_WORTH: Final = 20  # times as long as the question took, the answer is good
_ABSENT_SECONDS: Final = 60.0
_ABSENT: Final = 100_000
_FOLDERS: Final = 2_000
_AT_ONCE: Final = 64  # questions; equal ones wait for one answer
_WORTH_LISTING: Final = 3  # questions about a folder after which it is listed


class RunMemory:
    """The memory of one storage root. Shared by all threads. Unless it `works`, it remembers nothing."""

    def __init__(self, *, works: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._works, self._clock = works, clock
        self._lock = threading.Lock()
        self._leases = 0
        self._absent = TTLCache[str, bool](_ABSENT, _ABSENT_SECONDS)
        self._values = TLRUCache[str, tuple[Any, float]](
            _FOLDERS, lambda _, held, now: now + held[1], timer=clock
        )
        self._asked = TTLCache[str, int](_FOLDERS, _SECONDS)
        self._asking = [threading.Lock() for _ in range(_AT_ONCE)]
        self._underway = set[str]()  # questions whose answer nothing has outdated so far

    @contextlib.contextmanager
    def during_lease(self) -> Iterator[None]:
        """It remembers inside of the block, and forgets everything at its end."""
        with self._lock:
            self._leases += 1
        try:
            yield
        finally:
            with self._lock:
                self._leases -= 1
                for each in (self._absent, self._values, self._asked, self._underway):
                    each.clear()

    @property
    def works(self) -> bool:
        return self._works

    @property
    def _is_on(self) -> bool:
        return self._works and self._leases > 0

    def seen_absent(self, key: str) -> None:
        """It is not in the pool: this process has just looked."""
        with self._lock:
            if self._is_on:
                self._absent[key] = True

    def was_absent(self, key: str) -> bool:
        """Whether it was not in the pool lately. Who brings it looks again, once nobody else does."""
        with self._lock:
            return key in self._absent

    def forget(self, *keys: str) -> None:
        """This process has changed, made or removed these."""
        with self._lock:
            for key in keys:
                self._absent.pop(key, None)
                for name in (key, key.rpartition("/")[0]):
                    self._values.pop(name, None)
                    self._underway.discard(name)

    def lately(self, name: str, ask: Callable[[], Value]) -> Value:
        """What `ask` gives, or gave some seconds ago, of the object or folder `name`."""
        if not self._works:
            return ask()
        with self._asking[hash(name) % _AT_ONCE]:
            with self._lock:
                if name in self._values:
                    held: Value = self._values[name][0]
                    return held
                self._underway.add(name)
            began = self._clock()
            found = ask()
            # The listing of a very large repository takes longer than that: it would be made again and again.
            seconds = max(_SECONDS, _WORTH * (self._clock() - began))
            with self._lock:
                if self._is_on and name in self._underway:
                    self._values[name] = found, seconds
                self._underway.discard(name)
            return found

    def listed(self, folder: str, ask: Callable[[], Value]) -> Value | None:
        """As `lately`, of a whole folder, once several questions came about it; None before."""
        with self._lock:
            if not self._is_on:
                return None
            self._asked[folder] = self._asked.get(folder, 0) + 1
            if self._asked[folder] < _WORTH_LISTING and folder not in self._values:
                return None
        return self.lately(folder, ask)

    def held(self, name: str) -> Any:
        """What `lately` would give without a question; None where it would ask."""
        with self._lock:
            return self._values[name][0] if name in self._values else None

    def expect(self, questions: int, *folders: str) -> None:
        """So many questions about each are about to come: if that is worth a listing, the first makes it."""
        with self._lock:
            if self._is_on:
                self._asked.update(dict.fromkeys(folders, questions))

    def amend(self, folder: str, change: Callable[[Any], object]) -> None:
        """What is remembered of a folder is changed as this process has just changed the folder."""
        with self._lock:
            self._underway.discard(folder)
            if folder in self._values:
                change(self._values[folder][0])
