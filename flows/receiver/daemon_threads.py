"""Threads for work that waits: reused, started as they are needed, and no reason for a process not to end."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class DaemonThreads:
    """One caller submits work. Unlike those of concurrent.futures, the threads are not joined at the exit."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self.started = 0

    def submit(self, work: Callable[[], None]) -> None:
        """`work` raises nothing. Raises RuntimeError when the machine gives no further thread."""
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
            self.started += 1
        self._work.put(work)

    def _run(self) -> None:
        while True:
            self._work.get()()
            self._idle.release()
