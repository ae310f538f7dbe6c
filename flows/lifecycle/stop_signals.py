"""Ctrl-C, and Prefect's own SIGTERM, as a sign that the steps look at between two chunks of bytes."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from flows.lifecycle.engine_process import forced_exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# A task that waits for its retry sleeps in Prefect, where nothing can wake it: `retryDelay: 5m` would hold
# the exit for minutes. The runner of `up` kills after 10 s; who runs here leaves a little earlier.
GRACE_SECONDS: Final = 8.0


@dataclass(slots=True)
class StopSignal:
    """`event` is what the steps look at."""

    event: threading.Event = field(default_factory=threading.Event)
    _on_forced_exit: list[Callable[[], bool]] = field(default_factory=list)
    _timer: threading.Timer | None = None

    @contextmanager
    def on_forced_exit_do(self, work: Callable[[], bool]) -> Iterator[None]:
        """`work` is called, in another thread, when the block does not end in time.

        It returns whether the Prefect server knows how the run has ended.
        """
        self._on_forced_exit.append(work)
        try:
            yield
        finally:
            self._on_forced_exit.remove(work)

    def ask(self, _signal: int, _frame: Any) -> None:
        """The first signal asks; the second one does not wait any longer."""
        delay = 0.0 if self.event.is_set() else GRACE_SECONDS
        self.event.set()
        self._timer = threading.Timer(delay, self._force_exit)
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """The steps have ended by themselves."""
        if self._timer is not None:
            self._timer.cancel()

    def _force_exit(self) -> None:
        known: list[bool] = []
        try:
            for each in tuple(self._on_forced_exit):
                with suppress(Exception):  # the others have something to save, too
                    known.append(each())
        finally:
            code = forced_exit_code(is_known=bool(known) and all(known))
            os._exit(code)  # sleeping threads cannot be ended in any other way; the store bears it


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """A sign that is raised by SIGINT or SIGTERM while the block runs.

    Only the main thread may handle signals; elsewhere the sign is simply never raised by them. Prefect would
    raise into the flow, and then wait for every running task body to end by itself.
    """
    sign = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield sign
        return
    before = {number: signal.signal(number, sign.ask) for number in _SIGNALS}
    try:
        yield sign
    finally:
        sign.disarm()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def on_signal(work: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM do `work` in this block. Elsewhere than in the main thread they do what they did."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_signal: int, _frame: FrameType | None) -> None:
        work()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
