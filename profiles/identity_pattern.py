"""Regular expressions over identities in certificates: for the whole text, and always in linear time.

`TagPattern` backtracks where that is harmless for the length of a tag; what stands in a certificate is
longer, and the signer's own choice.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field

from profiles.automaton import Automaton
from profiles.errors import Refusal
from profiles.re2 import to_python
from profiles.tag_pattern import TagPattern

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
