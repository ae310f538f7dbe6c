"""Each upstream has a bounded share of the threads: one that hangs cannot delay requests for its neighbours.

Requests beyond the share are refused at once. A question that waits for its turn has no thread, unless it has
asked another upstream before. It learns that the upstream is left alone (breaker.py) without asking it.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from registry_server.oci.errors import MirrorflowError
from tasks.context.cooldown import HeldBack
from tasks.run.errors import NotAdmitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from profiles.model.registry_entry import RegistryEntry
    from tasks.on_demand.limits.breaker import Breaker

T = TypeVar("T")

QUESTIONS: Final = 256  # to one upstream: those that are being asked, and those that wait for their turn
CALLERS: Final = 1024  # clients that wait for one upstream, of which several may ask the same
_HELD: ContextVar[Turn | None] = ContextVar("turn", default=None)
# Seconds for an upstream that is left alone: enough for who tries whether it is back, if it is.
_LEFT_ALONE = 0.02


class UpstreamBusy(MirrorflowError):
    """As many requests as one upstream may hold wait for it already."""

    retryable = True


@dataclass(frozen=True, slots=True)
class _Queued:
    """A question that has not begun. `start` gives it a thread; `refuse` answers it without one."""

    start: Callable[[Turn | None], None]
    refuse: Callable[[MirrorflowError], None]
    has_others: bool  # upstreams to ask behind this one


@dataclass(slots=True)
class _Share:
    """Of one upstream. `changed` guards all of it."""

    asked: int = 0
    waiting: int = 0  # threads
    callers: int = 0
    queued: deque[_Queued] = field(default_factory=deque)
    changed: threading.Condition = field(default_factory=threading.Condition)


class Bulkhead:
    """By the name of the registry entry. Thread-safe."""

    def __init__(self, breaker: Breaker, *, questions: int = QUESTIONS, callers: int = CALLERS) -> None:
        self.breaker, self._most_questions, self._most_callers = breaker, questions, callers
        self._shares: dict[str, _Share] = {}
        self._lock = threading.Lock()
        breaker.on_open = self._wake

    def begin(
        self,
        entries: Sequence[RegistryEntry],
        start: Callable[[Turn | None], None],
        refuse: Callable[[MirrorflowError], None],
    ) -> None:
        """Call `start` when it is the question's turn with the first upstream, now or later, or `refuse`.

        `start` returns at once; the question is asked within `Turn.held`.
        """
        entry, question = entries[0], _Queued(start, refuse, has_others=len(entries) > 1)
        share = self._share_of(entry)
        with share.changed:
            if self.breaker.reason(entry.name) or self._is_full(share):
                turn = None  # then `asking` says why not, and the next upstream is tried
            elif share.asked < entry.req_concurrent and not share.waiting:
                turn = self._turn(share, entry)
            else:
                share.queued.append(question)
                return
        start(turn)

    @contextmanager
    def asking(self, entry: RegistryEntry) -> Iterator[None]:
        """For one question to the upstream, in its turn: `reqConcurrent` of them are asked at a time.

        Raises `UpstreamBusy`, `NotAskedNow`.
        """
        share, turn = self._share_of(entry), held_turn()
        if turn is None or not turn.take(entry.name):
            self._enter(share, entry)
        try:
            with self.breaker.guarding(entry.name):
                yield
        finally:
            self._leave(share, entry)

    def refusal(self, entries: Iterable[RegistryEntry]) -> MirrorflowError | None:
        """Why a question would be refused now by all of these upstreams: then it need not be begun."""
        reasons = [self._refusal(entry) for entry in entries]
        return reasons[0] if reasons and all(reasons) else None

    def result(self, future: Future[T], seconds: float, entry: RegistryEntry) -> T:
        """What a caller waits for, at most `seconds`. Raises `UpstreamBusy`, and what the future raises."""
        if future.done():
            return future.result()
        share = self._share_of(entry)
        with share.changed:
            if share.callers >= self._most_callers:
                raise self._busy(entry, self._most_callers)
            share.callers += 1
        try:
            return future.result(seconds)
        finally:
            with share.changed:
                share.callers -= 1

    def callers(self, entry: RegistryEntry) -> int:
        """How many clients wait for the upstream now."""
        return self._share_of(entry).callers

    def _enter(self, share: _Share, entry: RegistryEntry) -> None:
        with share.changed:
            if self._is_full(share):
                raise self._busy(entry, self._most_questions)
            share.waiting += 1
            try:
                share.changed.wait_for(
                    lambda: share.asked < entry.req_concurrent or self.breaker.reason(entry.name)
                )
            finally:
                share.waiting -= 1
            share.asked += 1

    def _leave(self, share: _Share, entry: RegistryEntry) -> None:
        """The next one's turn: a thread that waits is before those that have none yet."""
        with share.changed:
            share.asked -= 1
            share.changed.notify()
            if share.waiting or not share.queued or share.asked >= entry.req_concurrent:
                return
            question, turn = share.queued.popleft(), self._turn(share, entry)
        question.start(turn)

    def _turn(self, share: _Share, entry: RegistryEntry) -> Turn:
        """The lock is held."""
        share.asked += 1
        return Turn(entry.name, lambda: self._leave(share, entry))

    def _refusal(self, entry: RegistryEntry) -> MirrorflowError | None:
        share = self._share_of(entry)
        with share.changed:
            if self._is_full(share):
                return self._busy(entry, self._most_questions)
        return self.breaker.refusal(entry.name)

    def _is_full(self, share: _Share) -> bool:
        return share.asked + share.waiting + len(share.queued) >= self._most_questions

    def _busy(self, entry: RegistryEntry, most: int) -> UpstreamBusy:
        return UpstreamBusy(f"{entry.name}: as many requests as may wait for it already ({most:,})")

    def _share_of(self, entry: RegistryEntry) -> _Share:
        with self._lock:
            return self._shares.setdefault(entry.name, _Share())

    def _wake(self, name: str) -> None:
        """The upstream is left alone from now on: no question waits for its turn any more."""
        with self._lock:
            share = self._shares.get(name)
        if share is None:
            return
        with share.changed:
            share.changed.notify_all()
            queued, share.queued = share.queued, deque()
        for question in queued:
            refusal = None if question.has_others else self.breaker.refusal(name)
            if refusal is None:
                question.start(None)
            else:
                question.refuse(refusal)


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


class NotChecked(Exception):
    """Upstream did not say; the text is for the client's Warning."""


def in_time(future: Future[T], seconds: float, entry: RegistryEntry, bulkhead: Bulkhead) -> T:
    """What upstream said. Raises `NotChecked`; an upstream that takes longer is left alone for a while."""
    # The question may be one that somebody asked before that, and that still waits for its answer.
    breaker = bulkhead.breaker
    alone = breaker.reason(entry.name)
    try:
        return bulkhead.result(future, min(seconds, _LEFT_ALONE) if alone else seconds, entry)
    except TimeoutError:
        if alone:
            raise NotChecked(f"not checked: {alone}") from None
        reason = f"{entry.name} did not answer within {seconds:g} s"
        breaker.failed(entry.name, reason, began=breaker.clock() - seconds)
        raise NotChecked(f"not checked: {reason}") from None
    except HeldBack as error:
        raise NotChecked(str(error)) from error
    except NotAdmitted as error:
        raise NotChecked(f"refused: {error}") from error
    except MirrorflowError as error:
        raise NotChecked(f"not checked: {error}") from error
