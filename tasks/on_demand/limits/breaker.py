"""An upstream that does not answer is left alone for a while: it delays one request, not every one."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from tasks.run.errors import is_stop
from tasks.upstream.errors import UpstreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0  # seconds, doubling


class NotAskedNow(MirrorflowError):
    """The upstream failed a moment ago; `seconds` until it is asked again."""

    retryable = True

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message, seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(slots=True)
class _State:
    opened: float = 0.0
    until: float = 0.0
    pause: float = 0.0
    reason: str = ""


class Breaker:
    """By the name of the registry entry; its urls are several ways to one registry. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._states: dict[str, _State] = {}
        self._lock = threading.Lock()
        self.on_open: Callable[[str], None] = lambda _name: None

    @contextmanager
    def guarding(self, name: str) -> Iterator[None]:
        """For one request to upstream. Raises `NotAskedNow` when it is not to be made."""
        self._check(name)
        began = self.clock()
        try:
            yield
        except UpstreamUnavailable as error:
            if error.status is None:  # an answer, whatever it says, is no reason not to ask again
                self.failed(name, str(error), began=began)
            raise
        except MirrorflowError as error:
            if not is_stop(error):
                self._answered(name)
            raise
        else:
            self._answered(name)

    def reason(self, name: str) -> str:
        """Why it is left alone at the moment; "" when it is not."""
        with self._lock:
            state = self._states.get(name)
            return state.reason if state is not None and state.until > self.clock() else ""

    def refusal(self, name: str) -> NotAskedNow | None:
        """What `guarding` raises at the moment, if it does."""
        with self._lock:
            state = self._states.get(name)
            return self._not_asked(state) if state is not None and state.until > self.clock() else None

    def failed(self, name: str, reason: str, *, began: float | None = None) -> None:
        """Leave it alone: it did not answer, or not in time, a request that `began` then.

        Requests that were under way together fail together. Only the first of them prolongs the pause.
        """
        now = self.clock()
        with self._lock:
            state = self._states.setdefault(name, _State(opened=float("-inf")))
            if began is not None and began < state.opened:
                return
            state.pause = min(state.pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)
            state.opened, state.until, state.reason = now, now + state.pause, reason
        self.on_open(name)

    def _answered(self, name: str) -> None:
        with self._lock:
            self._states.pop(name, None)

    def _check(self, name: str) -> None:
        with self._lock:
            state = self._states.get(name)
            if state is None:
                return
            if state.until > self.clock():
                raise self._not_asked(state)
            state.until = self.clock() + state.pause  # one tries, the others wait for what it finds

    def _not_asked(self, state: _State) -> NotAskedNow:
        left = state.until - self.clock()
        return NotAskedNow(f"{state.reason} (asked again in {left:.0f} s)", left)
