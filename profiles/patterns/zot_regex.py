"""Expressions that zot, which searches anywhere in a tag, reads wider than a match of the whole tag."""

from __future__ import annotations

import re

_FLAGS = re.compile(r"\(\?[imsx]+\)")


def differs_from_full_match(text: str) -> bool:
    """Whether a search may find `text` in tags that it does not match as a whole."""
    return any(not (_begins(part) and _ends(part)) for part in _alternatives(_FLAGS.sub("", text, count=1)))


def to_full_match(text: str) -> str:
    """An expression that matches as a whole what zot's search finds."""
    flags, parts = _split(text)
    widened = [f"{'' if _begins(part) else '.*'}{part}{'' if _ends(part) else '.*'}" for part in parts]
    return flags + "|".join(widened)


def to_search(text: str) -> str:
    """The same expression, anchored so that zot takes what is taken here."""
    flags, parts = _split(text)
    if len(parts) > 1:
        return f"{flags}^({'|'.join(parts)})$"
    return f"{flags}{'' if _begins(text) else '^'}{parts[0]}{'' if _ends(text) else '$'}"


def _split(text: str) -> tuple[str, list[str]]:
    flags = _FLAGS.match(text)
    return (flags[0] if flags else ""), _alternatives(text[flags.end() if flags else 0 :])


def _begins(part: str) -> bool:
    return part.startswith(("^", ".*", r"\A"))


def _ends(part: str) -> bool:
    tail = re.search(r"(\\*)(?:\$|\.\*|z|Z)$", part)
    if tail is None:
        return False
    escaped = len(tail[1]) % 2 == 1
    return escaped if part[-1] in "zZ" else not escaped


def _alternatives(text: str) -> list[str]:
    """What stands between the bars that are in no group and no class."""
    parts, depth, start, at = [], 0, 0, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "[":
            at = _class_end(text, at)
        elif char == "|" and depth == 0:
            parts.append(text[start:at])
            start = at + 1
        depth += {"(": 1, ")": -1}.get(char, 0)
        at += 1
    return [*parts, text[start:]]


def _class_end(text: str, opening: int) -> int:
    at = opening + 1
    at += text[at : at + 1] == "^"
    at += 1  # a `]` that comes first stands for itself
    while at < len(text) and text[at] != "]":
        at += 2 if text[at] == "\\" else 1
    return at
