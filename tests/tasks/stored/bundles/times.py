"""A clock that never stands still: later calls give later times."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from registry_server.bundles.fields import written

_begin = datetime(2026, 1, 2, tzinfo=UTC)
_count = itertools.count(1)


def clock() -> str:
    """As bundles have times; a second after the last call."""
    return written(_begin + timedelta(seconds=next(_count)))
