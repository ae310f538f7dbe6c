"""Names that a repository pattern takes: witnesses for what is said about patterns."""

from __future__ import annotations

from profiles.globs import Glob, class_end, expand
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName

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
