"""Each upstream has a bounded share of the threads: one that hangs cannot delay requests for its neighbours.

Requests beyond the share are refused at once. A request that waits for its turn learns that the upstream is
left alone (breaker.py) without asking it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from profiles.model.registry_entry import RegistryEntry
    from tasks.on_demand.limits.breaker import Breaker

T = TypeVar("T")

QUESTIONS: Final = 256  # to one upstream: those that are being asked, and those that wait for their turn
CALLERS: Final = 1024  # clients that wait for one upstream, of which several may ask the same


class UpstreamBusy(MirrorflowError):
    """As many requests as one upstream may hold wait for it already."""

    retryable = True


@dataclass(slots=True)
class _Share:
    """Of one upstream. `changed` guards all of it."""

    asked: int = 0
    waiting: int = 0
    callers: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)


class Bulkhead:
    """By the name of the registry entry. Thread-safe."""

    def __init__(self, breaker: Breaker, *, questions: int = QUESTIONS, callers: int = CALLERS) -> None:
        self.breaker, self._most_questions, self._most_callers = breaker, questions, callers
        self._shares: dict[str, _Share] = {}
        self._lock = threading.Lock()
        breaker.on_open = self._wake

    @contextmanager
    def asking(self, entry: RegistryEntry) -> Iterator[None]:
        """For one question to the upstream, in its turn: `reqConcurrent` of them are asked at a time.

        Raises `UpstreamBusy`, `NotAskedNow`.
        """
        share = self._share_of(entry)
        self._enter(share, entry)
        try:
            with self.breaker.guarding(entry.name):
                yield
        finally:
            with share.changed:
                share.asked -= 1
                share.changed.notify()

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

    def _refusal(self, entry: RegistryEntry) -> MirrorflowError | None:
        share = self._share_of(entry)
        with share.changed:
            if self._is_full(share):
                return self._busy(entry, self._most_questions)
        return self.breaker.refusal(entry.name)

    def _is_full(self, share: _Share) -> bool:
        return share.asked + share.waiting >= self._most_questions

    def _busy(self, entry: RegistryEntry, most: int) -> UpstreamBusy:
        return UpstreamBusy(f"{entry.name}: as many requests as may wait for it already ({most:,})")

    def _share_of(self, entry: RegistryEntry) -> _Share:
        with self._lock:
            return self._shares.setdefault(entry.name, _Share())

    def _wake(self, name: str) -> None:
        """The upstream is left alone from now on: nobody waits for his turn any more."""
        with self._lock:
            share = self._shares.get(name)
        if share is not None:
            with share.changed:
                share.changed.notify_all()
