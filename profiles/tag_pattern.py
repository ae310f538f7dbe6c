"""Regular expressions over tags: they match the whole tag (`4.*`: begins with `4.`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from profiles.errors import Refusal


@dataclass(frozen=True, slots=True)
class TagPattern:
    """A compiled expression; equal when the text is equal."""

    text: str
    _compiled: re.Pattern[str] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: object) -> TagPattern:
        """Raises `Refusal` when `text` is not a regular expression."""
        if isinstance(text, TagPattern):
            return text
        if not isinstance(text, str):
            raise Refusal("not a text", "put the expression in quotes, e.g. '1\\.25'")
        try:
            return cls(text, re.compile(text, re.ASCII))
        except (re.error, OverflowError, RecursionError) as error:
            raise Refusal(
                f"{text!r} is not a regular expression ({error})",
                "correct it; '.*' takes any tag, a '*' alone is not an expression",
            ) from error

    def matches(self, tag: str) -> bool:
        """Whether the expression takes the whole of `tag`."""
        return self._compiled.fullmatch(tag) is not None

    def found_in(self, tag: str) -> bool:
        """Whether it occurs anywhere in `tag`: how zot reads it."""
        return self._compiled.search(tag) is not None

    def __str__(self) -> str:
        return self.text
