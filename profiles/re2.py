"""zot's dialect of regular expressions (RE2) in Python's spelling, where the two differ."""

from __future__ import annotations

import re

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ", "digit": "0-9",
    "lower": "a-z", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ", "upper": "A-Z",
    "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_TOKEN = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|$)"
    r"|(?P<end>\\z)"
    r"|\(\?<(?P<name>[A-Za-z_]\w*)>"
    r"|(?P<class>\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\])"
    r"|\\.",
    re.DOTALL,
)
_POSIX_CLASS = re.compile(r"\[:(\w+):\]")


def to_python(text: str) -> str:
    r"""`[[:digit:]]`, `\z`, `\Q…\E` and `(?<name>…)` in Python's spelling; all else as it is."""
    return _TOKEN.sub(_token, text)


def _token(found: re.Match[str]) -> str:
    if found["quoted"] is not None:
        return re.escape(found["quoted"])
    if found["end"]:
        return r"\Z"
    if found["name"]:
        return f"(?P<{found['name']}>"
    if found["class"]:
        return _POSIX_CLASS.sub(lambda posix: _POSIX.get(posix[1], posix[0]), found["class"])
    return found[0]
