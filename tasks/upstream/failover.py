"""Which of the entry's urls to ask, and whether to ask again."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from tasks.upstream.connection.limits import MAX_WAIT
from tasks.upstream.errors import UpstreamLimited, UpstreamUnavailable, UpstreamUntrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.errors import UpstreamError
    from tasks.upstream.exchange import Endpoint

T = TypeVar("T")
_PAUSES = (0.2, 1.0)  # seconds before the second and the third try
_LIMITED_PAUSES = (1.0, 3.0)  # the same after a 429 that does not say how long
_MAX_TRIES = 10


class Endpoints:
    """The urls in the listed order; what works is stayed with for the run. Thread-safe."""

    def __init__(self, endpoints: Sequence[Endpoint], waits: Waits) -> None:
        self._endpoints = tuple(endpoints)
        self._waits = waits
        self._current = 0
        self._lock = Lock()

    @property
    def current(self) -> Endpoint:
        """The one that works, as far as is known."""
        return self._endpoints[self._current]

    def run(self, operation: Callable[[Endpoint], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Do `operation` with the first endpoint that answers.

        Tries again, a few times, where seconds may help; a try during which `progress()` grew does not
        count as failed. Raises the `UpstreamError` of the first endpoint in the last round.
        """
        failed = 0
        for _ in range(_MAX_TRIES - 1):
            before = progress()
            try:
                return self._round(operation)
            except UpstreamUnavailable as error:
                failed = 0 if progress() > before else failed + 1
                pause = _pause(error, failed)
                if pause is None:
                    raise
            self._waits.sleep(pause)
        return self._round(operation)

    def _round(self, operation: Callable[[Endpoint], T]) -> T:
        failures: list[UpstreamError] = []
        start = self._current
        for step in range(len(self._endpoints)):
            number = (start + step) % len(self._endpoints)
            try:
                result = operation(self._endpoints[number])
            except UpstreamLimited:
                raise
            except (UpstreamUnavailable, UpstreamUntrusted) as error:
                failures.append(error)
                continue
            with self._lock:
                self._current = number
            return result
        raise _blamed(failures)


def _blamed(failures: Sequence[UpstreamError]) -> UpstreamError:
    """The first url's error; what the others said stands behind it."""
    first, *others = failures
    if others:
        said = "; ".join(f"{each.registry}: {each.reason}" for each in others)
        first.explain(f"{first.reason} (the other urls failed too: {said})")
    return first


def _pause(error: UpstreamUnavailable, failed: int) -> float | None:
    """Seconds to wait before another try; None: this is for the profile's own retries."""
    if failed > len(_PAUSES):
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_WAIT else None
    pauses = _LIMITED_PAUSES if isinstance(error, UpstreamLimited) else _PAUSES
    return pauses[max(failed - 1, 0)] if error.at_once else None
