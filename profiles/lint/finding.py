"""What a check found in a profile that loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from profiles.errors import Severity

if TYPE_CHECKING:
    from profiles.loading.key_names import KeyPath


class Finding(NamedTuple):
    """Where, what was found there, what to write instead."""

    path: KeyPath
    found: str
    write: str
    severity: Severity = Severity.ADVICE

    @classmethod
    def takes_nothing(cls, path: KeyPath, found: str, write: str) -> Finding:
        return cls(path, found, write, Severity.TAKES_NOTHING)
