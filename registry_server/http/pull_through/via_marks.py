"""The marks by which mirrors know their own requests again, in `Via` (RFC 9110, 7.6.3)."""

from __future__ import annotations

import re

_MARK = "mirrorflow-"
_MARKS = re.compile(rf"{_MARK}[0-9A-Za-z-]{{1,64}}")
_MOST_MARKS = 8


def mark_of(store_uuid: str) -> str:
    """What the mirror over this store is called in a `Via`."""
    return f"{_MARK}{store_uuid}"


def marks_in(via: str) -> list[str]:
    """The mirrors that a `Via` names: it comes from anybody, and is good for nothing but being compared."""
    return list(dict.fromkeys(_MARKS.findall(via[:2000])))[:_MOST_MARKS]
