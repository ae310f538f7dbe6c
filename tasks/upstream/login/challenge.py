"""`WWW-Authenticate`: what a registry asks for (RFC 9110, 11.6.1; distribution token specification)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?:\s+|\s*$|\s*,)")
_PARAMETER = re.compile(rf'\s*,?\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_PULL = re.compile(r"repository:[A-Za-z0-9._/:-]{1,512}:pull")  # distribution, "Token Scope"
_MAX_HEADER = 8192  # characters of one header that are looked at


@dataclass(frozen=True, slots=True)
class Challenge:
    """`scheme` and the names of parameters in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def realm(self) -> str:
        return self.parameters.get("realm", "")

    @property
    def pull_scope(self) -> str:
        """What a token is to be asked for, "" where that is not said, or is more than to pull.

        A registry behind a proxy that rewrites names has other names than the request.
        """
        scope = self.parameters.get("scope", "")
        parts = scope.split()
        return " ".join(parts) if parts and all(map(_PULL.fullmatch, parts)) else ""


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of all headers in their order; what makes no sense ends a header."""
    return [challenge for header in headers for challenge in _parse(header[:_MAX_HEADER])]


def _parse(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(header, position):
        scheme, position = match[1].lower(), match.end()
        parameters: dict[str, str] = {}
        while pair := _PARAMETER.match(header, position):
            quoted = pair[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else pair[3]
            parameters.setdefault(pair[1].lower(), value)
            position = pair.end()
        found.append(Challenge(scheme, parameters))
    return found


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """Bearer before Basic: a token is worth less to a thief than a password."""
    by_scheme: dict[str, Challenge] = {}
    for challenge in challenges:
        by_scheme.setdefault(challenge.scheme, challenge)
    return by_scheme.get("bearer") or by_scheme.get("basic")
