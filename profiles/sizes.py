"""Sizes: bytes as a number, or with a unit (`500MB`, `50GiB`)."""

from __future__ import annotations

import math
import re

from profiles.errors import Refusal

_UNITS = {
    "": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_TEXT = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)\s*([A-Za-z]*)", re.ASCII)
_ADVICE = "write '50GiB', '500MB', or a number of bytes"


def parse_size(value: object) -> int:
    """Bytes. Raises `Refusal` for anything that is not a finite number of them, more than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refusal("not a size", _ADVICE)
    size = _from_text(value.strip()) if isinstance(value, str) else float(value)
    if not math.isfinite(size) or size < 1:
        raise Refusal(f"{value!r} is not a size", _ADVICE)
    return int(size)


def _from_text(text: str) -> float:
    found = _TEXT.fullmatch(text)
    if found is None or found[2] not in _UNITS:
        raise Refusal(f"{text[:60]!r} is not a size", _ADVICE)
    return float(found[1]) * _UNITS[found[2]]
