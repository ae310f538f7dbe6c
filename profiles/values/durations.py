"""Durations as zot writes them (Go's `6h`, `1h30m`, `500ms`), and bare numbers of seconds."""

from __future__ import annotations

import math
import re

from profiles.errors import Refusal

_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3,
    "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
}  # fmt: skip
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+")
_ADVICE = "write '6h', '5m', '1h30m', '500ms', or a number of seconds"
# A century: nobody polls that seldom, but a Go duration dumped as nanoseconds is larger still.
_LONGEST = 100 * 365 * 86400.0


def parse_duration(value: object) -> float:
    """Seconds. Raises `Refusal` for anything that is not a finite, non-negative duration."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refusal("not a duration", _ADVICE)
    seconds = _seconds(value.strip()) if isinstance(value, str) else float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise Refusal(f"{value!r} is not a duration", _ADVICE)
    if seconds > _LONGEST:
        hint = "a bare number counts seconds, not nanoseconds; " if not isinstance(value, str) else ""
        raise Refusal(f"{value!r} is longer than a century", hint + _ADVICE)
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest exact spelling that `parse_duration` reads back, e.g. `1h30m` or `7d`."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        parts += [f"{count}{unit}"] if count else []
    parts += [f"{milliseconds}ms"] if milliseconds else []
    return "".join(parts) or "0s"


def _seconds(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _WHOLE.fullmatch(text):
        raise Refusal(f"{text!r} is not a duration", _ADVICE)
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
