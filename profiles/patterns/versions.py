"""Versions in tags, and version ranges: `>=1.2 <2`, `1.x`, `^1.2`, `~1.2.3`, `1.2 - 2.3`, joined by `||`.

Tags are read as leniently as zot reads them (Masterminds semver v1: `v1`, `1.2`, `3.19-alpine`). A tag has no
rule to follow, so what stands behind a dash may be a pre-release (`1.2.0-rc.1`) or a variant (`3.19-alpine`).
Semantic versioning knows only the first, and both are read as pre-releases here.

Ranges have the notation that npm, Helm and Flux share. Pre-releases (and variants such as `3.19-alpine`,
which are spelled like them) are in a range only when that range names one: `>=1.2-0` is `>=1.2` with
pre-releases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from semver import Version

from profiles.errors import Refusal

_ADVICE = "write e.g. '>=1.2 <2', '1.x', '^1.2', '~1.2.3', or several joined by '||'"
_OPERATOR = r">=|<=|!=|==|=|~>|>|<|\^|~"
_NUMBER = r"\d+|[xX*]"
_PARTIAL = (
    rf"v?(?:{_NUMBER})(?:\.(?:{_NUMBER}))?(?:\.(?:{_NUMBER}))?"
    r"(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z.-]+)?"
)
_TERM = re.compile(rf"({_OPERATOR})?\s*({_PARTIAL})(?=$|[\s,<>=!^~])", re.ASCII)
_HYPHEN = re.compile(rf"\s*({_PARTIAL})\s+-\s+({_PARTIAL})\s*", re.ASCII)
_LOWEST = "0"  # no pre-release sorts before `-0`


@dataclass(frozen=True, slots=True)
class _Span:
    """From `low` (included) up to `high` (excluded); None: open. `outside` turns it into its opposite."""

    low: Version | None
    high: Version | None
    outside: bool = False

    def __contains__(self, version: Version) -> bool:
        inside = (self.low is None or version >= self.low) and (self.high is None or version < self.high)
        return inside is not self.outside


@dataclass(frozen=True, slots=True)
class _Alternative:
    spans: tuple[_Span, ...]
    prereleases: bool  # one of its comparators names a pre-release

    def __contains__(self, version: Version) -> bool:
        if version.prerelease is not None and not self.prereleases:
            return False
        return all(version in span for span in self.spans)

    @property
    def empty(self) -> bool:
        lows = [span.low for span in self.spans if span.low is not None and not span.outside]
        highs = [span.high for span in self.spans if span.high is not None and not span.outside]
        return bool(lows and highs and max(lows) >= min(highs))


@dataclass(frozen=True, slots=True)
class VersionRange:
    """A set of versions; equal when the text is equal."""

    text: str
    _alternatives: tuple[_Alternative, ...] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: object) -> VersionRange:
        """Raises `Refusal` when `text` is not a range."""
        if isinstance(text, VersionRange):
            return text
        if not isinstance(text, str):
            raise Refusal("not a text", f"put the range in quotes; {_ADVICE}")
        return cls(text, tuple(_alternative(part) for part in text.split("||")))

    def __contains__(self, version: Version) -> bool:
        return any(version in alternative for alternative in self._alternatives)

    @property
    def empty(self) -> bool:
        """Whether no version can be in it, as in `>2 <1`."""
        return all(alternative.empty for alternative in self._alternatives)

    @property
    def prereleases(self) -> bool:
        """Whether it names a pre-release, and so takes them."""
        return any(alternative.prereleases for alternative in self._alternatives)

    def __str__(self) -> str:
        return self.text


def _alternative(text: str) -> _Alternative:
    if not text.strip():
        raise Refusal("an empty range matches nothing", f"leave it out to take any version, or {_ADVICE}")
    between = _HYPHEN.fullmatch(text)
    terms = [(">=", between[1]), ("<=", between[2])] if between else _terms(text)
    spans = tuple(_span(operator, partial) for operator, partial in terms)
    named = any("-" in partial.partition("+")[0] for _, partial in terms)
    return _Alternative(spans, named)


def _terms(text: str) -> list[tuple[str, str]]:
    terms, at = [], 0
    while at < len(text):
        if text[at] in " \t,":
            at += 1
            continue
        found = _TERM.match(text, at)
        if found is None:
            raise Refusal(f"{text[at:].strip()!r} is not a comparator", _ADVICE)
        terms.append((found[1] or "=", found[2]))
        at = found.end()
    if not terms:
        raise Refusal(f"{text!r} has no comparator", _ADVICE)
    return terms


def _span(operator: str, partial: str) -> _Span:  # noqa: PLR0911 - a table, one line an operator
    numbers, prerelease = _split(partial)
    low = _version(numbers, prerelease)
    after = _bump(numbers, len(numbers)) if prerelease is None and len(numbers) < 3 else _just_after(low)
    match operator:
        case ">=":
            return _Span(low, None)
        case "<":
            return _Span(None, low)
        case ">":
            return _Span(after, None) if after else _Span(low, low)  # `>*`: nothing
        case "<=":
            return _Span(None, after)
        case "^":
            return _Span(low, _bump(numbers, _significant(numbers)))
        case "~" | "~>":
            return _Span(low, _bump(numbers, min(len(numbers), 2)))
        case "!=":
            return _Span(low, after, outside=True)
        case _:
            return _Span(low, after)


def _split(partial: str) -> tuple[tuple[int, ...], str | None]:
    """`v1.2.x-rc.1+b` as the numbers before the first wildcard, and the pre-release."""
    core, _, prerelease = partial.partition("+")[0].removeprefix("v").partition("-")
    numbers: list[int] = []
    for number in core.split("."):
        if not number.isdigit():
            break
        numbers.append(int(number))
    return tuple(numbers), prerelease or None


def _version(numbers: tuple[int, ...], prerelease: str | None = None) -> Version:
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return Version(major, minor, patch, prerelease)


def _bump(numbers: tuple[int, ...], kept: int) -> Version | None:
    """The first version above all that share the first `kept` numbers, below its own pre-releases."""
    if kept == 0:
        return None
    return _version((*numbers[: kept - 1], numbers[kept - 1] + 1), _LOWEST)


def _just_after(version: Version) -> Version:
    """The version that follows immediately: nothing lies between the two."""
    if version.prerelease is None:
        return Version(version.major, version.minor, version.patch + 1, _LOWEST)
    return version.replace(prerelease=f"{version.prerelease}.{_LOWEST}")


def _significant(numbers: tuple[int, ...]) -> int:
    """How many numbers `^` keeps: up to the first that is not zero (`^0.2.3` is `>=0.2.3 <0.3.0`)."""
    return next((at + 1 for at, number in enumerate(numbers) if number), len(numbers))


_LENIENT = re.compile(
    r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)
_MAX_NUMBER = 2**63 - 1  # zot reads each number into an int64; longer ones are no versions to it


def parse_version(tag: str) -> Version | None:
    """The version that `tag` spells, or None. Missing numbers are zero: `1.2` is 1.2.0."""
    found = _LENIENT.fullmatch(tag)
    if found is None:
        return None
    major, minor, patch = (int(number or 0) for number in found.group(1, 2, 3))
    if max(major, minor, patch) > _MAX_NUMBER:
        return None
    return Version(major, minor, patch, found[4], found[5])
