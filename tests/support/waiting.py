"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for(found: Callable[[], object], seconds: float = 60.0) -> None:
    """Until it is true. AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.05)
