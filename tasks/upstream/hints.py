"""How long a registry asks us to wait: Retry-After, and what GHCR hides in its error text."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

# `retry-after: 880.092µs, allowed: 44000/minute` (GHCR); a Go duration.
_GHCR = re.compile(r"retry-after:\s*((?:\d+(?:\.\d+)?(?:ns|us|µs|μs|ms|s|m|h))+)", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|μs|ms|s|m|h)", re.IGNORECASE)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


def retry_after(headers: httpx.Headers, text: str = "", *, now: datetime | None = None) -> float | None:
    """Seconds, never negative; None when nothing usable is said. RFC 9110 10.2.3: seconds or a date."""
    header = headers.get("Retry-After", "").strip()
    if header:
        found = _number(header)
        return found if found is not None else _until(header, now or datetime.now(UTC))
    if match := _GHCR.search(text):
        return sum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(match[1]))
    return None


def _number(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _until(text: str, now: datetime) -> float | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:  # "-0000": UTC without knowing where one is
        date = date.replace(tzinfo=UTC)
    return max((date - now).total_seconds(), 0.0)
