"""Giving up a body that comes so slowly that it would hold its connection and its slot for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks.upstream.errors import UpstreamUnavailable

if TYPE_CHECKING:
    from tasks.upstream.errors import Where

LEAST: Final = 1024  # bytes a second: far below any line on which a mirror makes sense


class MinimumRate:
    """Of one body: at least `LEAST` bytes a second, on average over each `window` seconds of waiting for it.

    What the reader does between two pieces (hashing, writing, `bytesPerSec`) is not waiting.
    """

    def __init__(self, where: Where, window: float) -> None:
        self._where, self._window = where, window
        self._bytes, self._seconds = 0, 0.0

    def waited(self, seconds: float, received: int) -> None:
        """Note how long it took until so many bytes were there."""
        self._seconds += seconds
        self._bytes += received

    def check(self) -> None:
        """Raises `UpstreamUnavailable`."""
        if self._seconds < self._window:
            return
        if self._bytes < LEAST * self._window:
            raise UpstreamUnavailable(
                self._where,
                f"{self._bytes} bytes in {self._seconds:.1f} s; at least {LEAST} a second have to come, on "
                "average over readTimeout",
            )
        self._bytes, self._seconds = 0, 0.0
