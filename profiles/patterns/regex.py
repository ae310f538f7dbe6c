"""Regular expressions over tags and over identities in certificates, in zot's dialect (RE2).

They match the whole text (`4.*`: begins with `4.`). `TagPattern` backtracks where that is harmless for the
length of a tag. `IdentityPattern` never does: what stands in a certificate is longer, and the signer's own
choice.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field

from profiles.errors import Refusal
from profiles.patterns.automaton import Automaton, may_backtrack

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


_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class TagPattern:
    """A compiled expression; equal when the text is equal. Matching takes no longer than linear time."""

    text: str
    _compiled: re.Pattern[str] = field(compare=False, repr=False)
    _automaton: Automaton | None = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: object) -> TagPattern:
        """Raises `Refusal` when `text` is not a regular expression."""
        if isinstance(text, TagPattern):
            return text
        if not isinstance(text, str):
            raise Refusal("not a text", r"put the expression in quotes, e.g. '1\.25'")
        if len(text) > _LONGEST:
            raise Refusal(f"an expression of more than {_LONGEST} characters", "write several content rules")
        try:
            return cls(text, *_compile(to_python(text)))
        except (re.error, OverflowError, RecursionError) as error:
            raise Refusal(
                f"{text!r} is not a regular expression ({error})",
                "correct it; '.*' takes any tag, a '*' alone is not an expression",
            ) from error

    def matches(self, tag: str) -> bool:
        """Whether the expression takes the whole of `tag`."""
        if self._automaton is not None:
            return self._automaton.fullmatch(tag)
        return self._compiled.fullmatch(tag) is not None

    def is_found_in(self, tag: str) -> bool:
        """Whether it occurs anywhere in `tag`: how zot reads it."""
        if self._automaton is not None:
            return self._automaton.search(tag)
        return self._compiled.search(tag) is not None

    @property
    def groups(self) -> tuple[str, ...]:
        """What `match_groups` knows: `0` for all of it, then numbers, then names."""
        return (*map(str, range(self._compiled.groups + 1)), *self._compiled.groupindex)

    @property
    def supports_groups(self) -> bool:
        """Whether `match_groups` takes linear time: the automaton knows no groups."""
        return self._automaton is None

    def match_groups(self, tag: str) -> dict[str, str] | None:
        """What each group holds ("" where it took no part); None where the expression does not match."""
        found = self._compiled.fullmatch(tag)
        return None if found is None else {name: found[_key(name)] or "" for name in self.groups}

    def __str__(self) -> str:
        return self.text


def _key(name: str) -> int | str:
    return int(name) if name.isdigit() else name


def _compile(text: str) -> tuple[re.Pattern[str], Automaton | None]:
    with warnings.catch_warnings():
        # `[[` may mean something else in a later Python; in RE2 it never does.
        warnings.simplefilter("ignore", FutureWarning)
        compiled = re.compile(text, re.ASCII)
        return compiled, Automaton(text) if may_backtrack(text) else None


_EXAMPLE = r"write e.g. 'https://github\.com/acme/.+'"


@dataclass(frozen=True, slots=True)
class IdentityPattern:
    """A compiled expression; equal when the text is equal."""

    text: str
    _automaton: Automaton = field(compare=False, repr=False)

    @classmethod
    def parse(cls, value: object) -> IdentityPattern:
        """Raises `Refusal` when `value` is not a regular expression."""
        if isinstance(value, IdentityPattern):
            return value
        try:
            text = TagPattern.parse(value).text
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # as in TagPattern
                return cls(text, Automaton(to_python(text)))
        except Refusal as refusal:
            raise Refusal(refusal.found, _EXAMPLE) from refusal
        except (re.error, OverflowError, RecursionError) as error:
            raise Refusal(f"{value!r} is not a regular expression ({error})", _EXAMPLE) from error

    def matches(self, text: str) -> bool:
        """Whether the expression takes the whole of `text`."""
        return self._automaton.fullmatch(text)

    def __str__(self) -> str:
        return self.text
