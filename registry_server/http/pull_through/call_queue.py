"""The order in which calls go to the receiver of misses: one repository's many do not delay another's few.

The receiver takes calls one after the other, and needs some time for each. So only a few questions are given
to it at a time. Calls with the same question go together, because the receiver asks upstream once for all of
them. A question counts until it is answered, or until the receiver has had time to take it: one that waits
for an upstream makes no other one wait. Of one process, whose event loop alone uses it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

_AT_ONCE: Final = 8
_TAKEN: Final = 0.04  # seconds after which a question that is not answered waits for an upstream
_TOGETHER: Final = 64  # calls


@dataclass(slots=True, eq=False)
class _Asked:
    """One question, and the calls that make it. `has_place`: it is one of those at a time."""

    calls: int = 0
    has_place: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)


class CallQueue:
    """Calls that revalidate what is here go first. Of the others each `group` has its turn."""

    def __init__(self, at_once: int = _AT_ONCE, taken: float = _TAKEN) -> None:
        self._free, self._taken = at_once, taken
        self._here, self._missing = _Groups(), _Groups()
        self._asked: dict[Hashable, _Asked] = {}

    @asynccontextmanager
    async def turn(self, question: Hashable, group: str, *, is_here: bool) -> AsyncIterator[None]:
        """`is_here`: the store has something to answer with."""
        asked = self._asked.get(question)
        if asked is None or asked.calls >= _TOGETHER:
            asked = self._asked[question] = _Asked()
            (self._here if is_here else self._missing).add(group, asked)
        asked.calls += 1
        self._begin()
        try:
            await asked.begun.wait()
            yield
        finally:
            asked.calls -= 1
            if not asked.calls:
                self._end(question, asked)

    def _begin(self) -> None:
        """Whatever there are places for."""
        while self._free and (asked := self._here.next() or self._missing.next()):
            self._free -= 1
            asked.has_place = True
            asked.begun.set()
            asyncio.get_running_loop().call_later(self._taken, self._leave, asked)

    def _end(self, question: Hashable, asked: _Asked) -> None:
        if self._asked.get(question) is asked:
            del self._asked[question]
        self._leave(asked)

    def _leave(self, asked: _Asked) -> None:
        if asked.has_place:
            asked.has_place = False
            self._free += 1
            self._begin()


class _Groups:
    """Questions that wait, by group, in the order of the groups' next turns."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[_Asked]] = OrderedDict()

    def add(self, group: str, asked: _Asked) -> None:
        self._waiting.setdefault(group, deque()).append(asked)

    def next(self) -> _Asked | None:
        """Questions whose clients have all gone are left out."""
        while self._waiting:
            group, questions = self._waiting.popitem(last=False)
            asked = questions.popleft()
            if questions:
                self._waiting[group] = questions
            if asked.calls:
                return asked
        return None
