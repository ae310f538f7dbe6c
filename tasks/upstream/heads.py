"""What a refused HEAD means. Some registries, and places that they redirect to, answer GET alone."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from tasks.upstream.errors import UpstreamLimited, UpstreamLoginDenied, UpstreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.upstream.errors import UpstreamError
    from tasks.upstream.exchange import Endpoint

# A single failure must not turn a poll into GETs, each of which Docker Hub counts as a pull.
_ENOUGH = 3
_AGAIN = 3600.0  # seconds after which HEAD is tried once more: a receiver runs for weeks
_NOT_IMPLEMENTED = frozenset({405, 501})  # RFC 9110, 15.5.6 and 15.6.2: of the method itself


def is_refused_head(error: UpstreamError) -> bool:
    """Whether a GET may be answered better. It is not where we are asked to wait, or were not let in."""
    if error.status is None or isinstance(error, (UpstreamLimited, UpstreamLoginDenied)):
        return False
    if isinstance(error, UpstreamUnavailable):
        return error.status >= 500 and error.retry_after is None
    return error.status != 401


class Heads:
    """Which endpoints are asked by GET at once, because their HEADs were of no use. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._useless: dict[Endpoint, int] = {}  # in a row
        self._until: dict[Endpoint, float] = {}
        self._lock = Lock()

    def are_asked(self, endpoint: Endpoint) -> bool:
        with self._lock:
            return self._until.get(endpoint, float("-inf")) <= self._clock()

    def worked(self, endpoint: Endpoint) -> None:
        if endpoint in self._useless:
            with self._lock:
                self._useless.pop(endpoint, None)

    def were_useless(self, endpoint: Endpoint, status: int | None) -> None:
        """A GET answered what a HEAD did not; `status` is the HEAD's, None where it only had no digest."""
        with self._lock:
            self._useless[endpoint] = self._useless.get(endpoint, 0) + 1
            if status in _NOT_IMPLEMENTED or self._useless[endpoint] >= _ENOUGH:
                self._until[endpoint] = self._clock() + _AGAIN
