"""Regular expressions over tags: they match the whole tag (`4.*`: begins with `4.`)."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field

from profiles.automaton import Automaton, is_risky
from profiles.errors import Refusal
from profiles.re2 import to_python

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

    def found_in(self, tag: str) -> bool:
        """Whether it occurs anywhere in `tag`: how zot reads it."""
        if self._automaton is not None:
            return self._automaton.search(tag)
        return self._compiled.search(tag) is not None

    @property
    def groups(self) -> tuple[str, ...]:
        """What `groups_in` knows: `0` for all of it, then numbers, then names."""
        return (*map(str, range(self._compiled.groups + 1)), *self._compiled.groupindex)

    @property
    def has_groups_at_once(self) -> bool:
        """Whether `groups_in` takes linear time: the automaton knows no groups."""
        return self._automaton is None

    def groups_in(self, tag: str) -> dict[str, str] | None:
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
        return compiled, Automaton(text) if is_risky(text) else None
