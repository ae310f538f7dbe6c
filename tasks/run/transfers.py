"""The threads of a run, as many as the entry allows, and the locks that they take by key."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
R = TypeVar("R")


class Transfers:
    def __init__(self, width: int) -> None:
        self._width = width
        self._threads = ThreadPoolExecutor(width, thread_name_prefix="transfer")
        self._closed = False

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`work` of every item, in order; earlier calls come first. `work` must not raise.

        Raises `CancelledError` once `close` was called.

        A future for every item would cost a kilobyte and wake the caller each time: every thread takes one
        item after the other instead.
        """
        waiting = deque(enumerate(items))
        results: dict[int, R] = {}

        def work_off() -> None:
            while not self._closed:
                try:
                    number, item = waiting.popleft()
                except IndexError:
                    return
                results[number] = work(item)
            raise CancelledError

        helpers = [self._threads.submit(work_off) for _ in range(min(self._width, len(items)))]
        for helper in helpers:
            helper.result()
        return [results[number] for number in range(len(items))]

    def close(self) -> None:
        """Wait for the items that are being done; those that have not begun are dropped."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)


@dataclass(slots=True)
class _Held:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


@dataclass(slots=True)
class KeyedLocks:
    """A lock for each key: a second caller waits, and then finds what the first one did. Unused keys go."""

    _held: dict[str, _Held] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        with self._lock:
            held = self._held.setdefault(key, _Held())
            held.users += 1
        try:
            with held.lock:
                yield
        finally:
            with self._lock:
                held.users -= 1
                if not held.users:
                    del self._held[key]
