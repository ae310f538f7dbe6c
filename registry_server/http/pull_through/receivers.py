"""Which receiver of misses is asked: each repository belongs to one, and the others stand in for it.

All servers put the same receivers into the same order for a repository (rendezvous hashing), so equal misses
of several servers meet in one receiver, which asks the upstream once. A receiver that is added or lost moves
the repositories that belong to it, and no others.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final, Self

from registry_server.http.pull_through.webhook_client import LONGEST_ANSWER, ReceiverFailed, call
from registry_server.oci.errors import MirrorflowError
from registry_server.store.mirror_state.receivers import LOST_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from registry_server.http.pull_through.webhook_client import OnMissOptions
    from registry_server.store.mirror_state.receivers import ReceiverRecords

_log = logging.getLogger("registry_server")
_LOOK_EVERY: Final = 1.0  # seconds
_CONNECT_SECONDS: Final = 2.0  # until the next receiver is asked; a host that is down answers nothing
_NO_RECEIVER: Final = "no receiver of misses runs: start `mirrorflow receive`, or `mirrorflow up`"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds in which a receiver that failed is asked last


def in_order(urls: Iterable[str], repository: str) -> list[str]:
    """Rendezvous hashing: the receiver that `repository` belongs to is first, then those that stand in."""
    return sorted(urls, key=lambda url: hashlib.sha256(f"{url}\n{repository}".encode()).digest())


class RegisteredReceivers:
    """Those that have a record in the store and renew it. Of one process; threads may share it.

    `beats` reads the records. A receiver is gone when its beat has been the same for `LOST_AFTER` seconds of
    this process's clock; one that is seen for the first time counts as running.
    """

    def __init__(
        self, beats: Callable[[], Mapping[str, str]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._beats, self._clock = beats, clock
        self._seen: dict[str, tuple[str, float]] = {}  # the beat, and when it was seen first
        self._looked = float("-inf")

    def __call__(self) -> tuple[str, ...]:
        """Their urls; reads the records once a second at most, and none while the store cannot be read."""
        now = self._clock()
        if now - self._looked >= _LOOK_EVERY:
            self._looked = now
            self._look(now)
        return tuple(url for url, (_, since) in self._seen.items() if now - since < LOST_AFTER)

    def _look(self, now: float) -> None:
        try:
            beats = self._beats()
        except MirrorflowError as error:
            _log.error("the records of receivers cannot be read: %s", error)
            return
        before = self._seen
        self._seen = {
            url: before[url] if url in before and before[url][0] == beat else (beat, now)
            for url, beat in beats.items()
        }


class ReceiverPool:
    """In which order the receivers are asked now. Of one process, whose event loop alone uses it.

    A receiver that failed is asked after the others, for a second at first and for half a minute at most;
    then one call tries it again.
    """

    def __init__(
        self, urls: Callable[[], Sequence[str]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._urls, self._clock = urls, clock
        self._failed: dict[str, tuple[float, float]] = {}  # until when, and the length of the pause

    def order(self, repository: str) -> list[str]:
        """All receivers, the one that should answer first; none when there is none."""
        now = self._clock()
        urls = in_order(self._urls(), repository)
        resting = {url for url in urls if self._until(url) > now}
        for url in urls[:1]:
            if url in self._failed and url not in resting:
                self.failed(url)  # this call tries it; the others need not wait for what comes of that
        return [each for each in urls if each not in resting] + [each for each in urls if each in resting]

    def knows(self, url: str) -> bool:
        """Whether it is one of the receivers still."""
        return url in self._urls()

    def failed(self, url: str) -> None:
        pause = self._failed.get(url, (0.0, 0.0))[1]
        longer = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._failed[url] = self._clock() + longer, longer

    def answered(self, url: str) -> None:
        self._failed.pop(url, None)

    def _until(self, url: str) -> float:
        return self._failed.get(url, (0.0, 0.0))[0]


class ReceiverClient:
    """Asks the receiver that a repository belongs to, and the next one when that does not answer."""

    def __init__(self, options: OnMissOptions, pool: ReceiverPool) -> None:
        self.options, self._pool = options, pool

    @classmethod
    def of(
        cls, options: OnMissOptions, records: ReceiverRecords, *, clock: Callable[[], float] = time.monotonic
    ) -> Self:
        """Of the receivers that `options` name, or else of those that have a record."""
        urls = options.urls
        found = (lambda: urls) if urls else RegisteredReceivers(records.beats, clock=clock)
        return cls(options, ReceiverPool(found, clock=clock))

    async def call(
        self, question: dict[str, Any], seconds: float, *, longest: int = LONGEST_ANSWER
    ) -> dict[str, Any]:
        """The answer's JSON, of at most `longest` bytes, within `seconds`. Raises `ReceiverFailed`."""
        deadline, failure = time.monotonic() + seconds, ReceiverFailed(_NO_RECEIVER)
        urls = self._pool.order(question["repository"])
        for url, is_last in zip(urls, [*[False] * (len(urls) - 1), True], strict=False):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            connect = left if is_last else min(left, _CONNECT_SECONDS)
            asking = call(
                url, self.options.secret, question | {"timeout": left, "receiver": url}, left,
                connect=connect, longest=longest,
            )  # fmt: skip
            try:
                found = await (asking if is_last else self._while_it_runs(url, asking))
            except ReceiverFailed as error:
                failure = error
                self._pool.failed(url)
                continue
            self._pool.answered(url)
            return found
        raise failure

    async def _while_it_runs(self, url: str, asking: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        """Its answer. Raises `ReceiverFailed`: a host that has lost its power ends no connection."""
        answering = asyncio.ensure_future(asking)
        try:
            while not (await asyncio.wait({answering}, timeout=_LOOK_EVERY))[0]:
                if not self._pool.knows(url):
                    raise ReceiverFailed(f"{url} does not renew its record in the store any more")
            return answering.result()
        finally:
            answering.cancel()
