"""A turn with an upstream that a question was given before it had a thread (bulkhead.py)."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HELD: ContextVar[Turn | None] = ContextVar("turn", default=None)


class Turn:
    """Good for one request to one upstream; `give_back` is called when it is not used for that."""

    def __init__(self, upstream: str, give_back: Callable[[], None]) -> None:
        self._upstream, self._give_back = upstream, give_back
        self._is_left, self._lock = True, Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """For the thread that asks. A second one, a retry for example, finds the turn used."""
        token = _HELD.set(self)
        try:
            yield
        finally:
            _HELD.reset(token)
            self.take("")

    def take(self, upstream: str) -> bool:
        """Whether it is left and for this upstream. One for another upstream is given back."""
        with self._lock:
            was_left, self._is_left = self._is_left, False
        if was_left and upstream != self._upstream:
            self._give_back()
        return was_left and upstream == self._upstream


def held_turn() -> Turn | None:
    """That of this thread."""
    return _HELD.get()
