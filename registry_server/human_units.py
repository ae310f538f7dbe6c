"""Bytes and seconds for people."""

from __future__ import annotations

from humanize import naturalsize


def human_bytes(count: float) -> str:
    """Decimal units, as registries and disks count: `1.2 GB`, `512 bytes`."""
    return naturalsize(count).replace("Byte", "byte")


def human_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `6 h`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return _two(seconds, 60, "min", 1, "s")
    if seconds < 86400:
        return _two(seconds, 3600, "h", 60, "min")
    return _two(seconds, 86400, "d", 3600, "h")


def _two(seconds: float, big: int, big_unit: str, small: int, small_unit: str) -> str:
    rest = int(seconds % big // small)
    return f"{seconds // big:.0f} {big_unit}" + (f" {rest} {small_unit}" if rest else "")
