"""Numbers of things in messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 tag`, `0 tags`, `1,200 tags`; `plural` where that is not `noun` with an s: `2 repositories`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
