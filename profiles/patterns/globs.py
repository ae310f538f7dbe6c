"""Repository patterns as zot reads them (doublestar v4), compiled to regular expressions.

`*`, `?` and `[a-z]` stay inside one path segment, `{a,b}` is a choice, `**` as a whole segment stands for
any number of segments, none included (`a/**` takes `a`); glued to other text (`a**`) it is just `*`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from profiles.errors import Refusal
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName

_META = "*?[{\\"
_MAX_CHOICES = 1000  # `{a,b}{c,d}…` multiplies; nobody writes so many by hand


@dataclass(frozen=True, slots=True)
class Glob:
    """A compiled pattern; equal when the text is equal."""

    text: str
    base: str = field(compare=False)  # the static segments before the first one with a meta character
    static: bool = field(compare=False)  # no meta character at all: it names exactly one repository
    _compiled: re.Pattern[str] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: object) -> Glob:
        """Raises `Refusal` when `text` is not a pattern."""
        if isinstance(text, Glob):
            return text
        if not isinstance(text, str):
            raise Refusal("not a text", "write a repository or a pattern, e.g. 'library/*'")
        return _compile(text)

    def matches(self, name: str) -> bool:
        """Whether the pattern takes the whole of `name`."""
        return self._compiled.fullmatch(name + "/") is not None

    @property
    def expression(self) -> str:
        """A regular expression that takes the whole of a name with a "/" behind it, as `matches` does."""
        return self._compiled.pattern

    def __str__(self) -> str:
        return self.text


@cache
def _compile(text: str) -> Glob:
    choices = expand(text)
    body = "|".join(_translate(choice) for choice in choices)
    base, static = _base(text)
    return Glob(text, base, static, re.compile(body))


def _base(text: str) -> tuple[str, bool]:
    meta = min((text.find(char) for char in _META if char in text), default=-1)
    return (text, True) if meta < 0 else (text[:meta].rpartition("/")[0], False)


def expand(text: str) -> list[str]:
    """All the patterns without braces that `text` stands for."""
    opening = _find(text, "{}", 0)
    if opening < 0:
        return [text]
    if text[opening] == "}":
        raise Refusal(f"{text!r} has a '}}' that no '{{' opens", "write e.g. 'library/{alpine,nginx}'")
    parts, closing = _choices(text, opening)
    whole = [
        text[:opening] + middle + tail
        for part in parts
        for middle in expand(part)
        for tail in expand(text[closing + 1 :])
    ]
    if len(whole) > _MAX_CHOICES:
        raise Refusal(
            f"the pattern stands for more than {_MAX_CHOICES} choices", "write several content rules"
        )
    return whole


def _choices(text: str, opening: int) -> tuple[list[str], int]:
    """The texts between the commas of the brace that begins at `opening`, and where it ends."""
    parts, depth, start = [], 0, opening + 1
    at = opening
    while at >= 0:
        char = text[at]
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth == 0 or (depth == 1 and char == ","):
            parts.append(text[start:at])
            start = at + 1
        if depth == 0:
            return parts, at
        at = _find(text, "{},", at + 1)
    raise Refusal(f"{text!r} has a '{{' that is never closed", "write e.g. 'library/{alpine,nginx}'")


def _find(text: str, wanted: str, start: int) -> int:
    """The next of the `wanted` characters that is neither escaped nor inside a class; -1: none."""
    at = start
    while at < len(text):
        if text[at] in wanted:
            return at
        at = class_end(text, at) + 1 if text[at] == "[" else at + (2 if text[at] == "\\" else 1)
    return -1


def class_end(text: str, opening: int) -> int:
    """Where the `]` of the class at `opening` is. Like doublestar, a class may not be empty."""
    at = opening + 1
    at += text[at : at + 1] in {"^", "!"}
    first = at
    while at < len(text) and text[at] != "]":
        at += 2 if text[at] == "\\" else 1
    if at >= len(text) or at == first:
        raise Refusal(f"{text!r} has a '[' that begins no class", "write e.g. 'v[0-9]', or '\\[' for itself")
    return at


def _translate(pattern: str) -> str:
    """A regular expression for names with a '/' after every segment.

    What stands between two `**` is taken where it comes first: that loses no match, and with atomic groups
    it keeps the time linear where plain backtracking would be exponential.
    """
    blocks: list[list[str]] = [[]]
    for segment in pattern.split("/"):
        if segment == "**":
            blocks.append([])
        else:
            blocks[-1].append(_segment(segment) + "/")
    first, *rest = ["".join(block) for block in blocks]
    if not rest:
        return first
    middle = "".join(f"(?>(?:[^/]+/)*?{block})" for block in rest[:-1] if block)
    return f"{first}{middle}(?:[^/]+/)*{rest[-1]}"


def _segment(segment: str) -> str:
    pieces = _pieces(segment)
    first, *rest = pieces
    if not rest:
        return first
    middle = "".join(f"(?>[^/]*?{piece})" for piece in rest[:-1] if piece)
    return f"{first}{middle}[^/]*{rest[-1]}"


def _pieces(segment: str) -> list[str]:
    """What stands between the stars of one segment, as regular expressions of fixed length."""
    pieces, at = [""], 0
    while at < len(segment):
        char = segment[at]
        end = at + 1
        if char == "*":
            pieces.append("")
        elif char == "?":
            pieces[-1] += "[^/]"
        elif char == "[":
            end = class_end(segment, at) + 1
            pieces[-1] += _class(segment[at + 1 : end - 1])
        elif char == "\\":
            if end >= len(segment):
                raise Refusal(f"{segment!r} ends with a lone '\\'", "drop it, or write '\\\\' for itself")
            end += 1
            pieces[-1] += re.escape(segment[at + 1])
        else:
            pieces[-1] += re.escape(char)
        at = end
    return pieces


def _class(inside: str) -> str:
    negated = inside[0] in "^!"
    members, at = "", 1 if negated else 0
    while at < len(inside):
        at += inside[at] == "\\"
        low = inside[at : at + 1]
        at += 1
        if inside[at : at + 1] == "-" and at + 1 < len(inside):
            at += 1 + (inside[at + 1] == "\\")
            high = inside[at : at + 1]
            at += 1
            # A range that runs backwards takes nothing, as in doublestar.
            members += f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""
        else:
            members += re.escape(low)
    if not members:
        return "[^/]" if negated else "(?!)"
    return f"(?!/)[{'^' if negated else ''}{members}]"


_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-_."


def sample_names(glob: Glob, filler: str = "a") -> tuple[RepositoryName, ...]:
    """Some names that the pattern takes, one for each choice in it; () if no repository can match.

    A star is filled with one letter. No longer filling could make a valid name where that makes none:
    separators need something on both sides, and one letter is enough.
    """
    names = (_valid(_filled(choice, filler)) for choice in expand(glob.text))
    return tuple(dict.fromkeys(name for name in names if name is not None and glob.matches(name)))


def _filled(pattern: str, filler: str) -> str:
    name, at = "", 0
    while at < len(pattern):
        end = at + 1
        match pattern[at]:
            case "*":
                while pattern[end : end + 1] == "*":
                    end += 1
                name += filler
            case "?":
                name += filler[:1]
            case "[":
                end = class_end(pattern, at) + 1
                one = Glob.parse(pattern[at:end])
                name += next(filter(one.matches, _LETTERS), "")
            case "\\":
                end += 1
                name += pattern[at + 1]
            case char:
                name += char
        at = end
    return name


def _valid(text: str) -> RepositoryName | None:
    try:
        return RepositoryName(text)
    except InvalidName:
        return None
