"""The order in which calls go to the receiver of misses: one repository's many do not delay another's few.

The receiver takes calls one after the other, and needs some time for each. So only a few are given to it at a
time. A call counts until it is answered, or until the receiver has had the time to take it: a call that waits
for an upstream makes no other call wait. Of one process, whose event loop alone uses it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_AT_ONCE: Final = 8
_TAKEN: Final = 0.01  # seconds after which a call that is not answered waits for an upstream


class CallQueue:
    """Calls that revalidate what is here go first. Of the others each `group` has its turn."""

    def __init__(self, at_once: int = _AT_ONCE, taken: float = _TAKEN) -> None:
        self._free, self._taken = at_once, taken
        self._here, self._missing = _Groups(), _Groups()

    @asynccontextmanager
    async def turn(self, group: str, *, is_here: bool) -> AsyncIterator[None]:
        """`is_here`: the store has something to answer with."""
        await self._enter(self._here if is_here else self._missing, group)
        place = _Place(self)
        timer = asyncio.get_running_loop().call_later(self._taken, place.leave)
        try:
            yield
        finally:
            timer.cancel()
            place.leave()

    async def _enter(self, groups: _Groups, group: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        groups.add(group, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it had just come
                self.leave()
            raise

    def leave(self) -> None:
        """The next one's turn."""
        turn = self._here.next() or self._missing.next()
        if turn is None:
            self._free += 1
        else:
            turn.set_result(None)


class _Place:
    """Of one call; it is left once."""

    def __init__(self, queue: CallQueue) -> None:
        self._queue: CallQueue | None = queue

    def leave(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.leave()


class _Groups:
    """Those that wait, by group, in the order of the groups' next turns."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def add(self, group: str, turn: asyncio.Future[None]) -> None:
        self._waiting.setdefault(group, deque()).append(turn)

    def next(self) -> asyncio.Future[None] | None:
        """Those whose client has gone are left out."""
        while self._waiting:
            group, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[group] = turns
            if not turn.done():
                return turn
        return None
