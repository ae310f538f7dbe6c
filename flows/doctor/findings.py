"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

_MOST = 500  # characters


class Outcome(StrEnum):
    """`note`: it works, and somebody should know; `failed`: something does not work."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is what was looked at, `found` what was seen, `advice` what to do about it, if anything."""

    subject: str
    check: str
    outcome: Outcome
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Subject:
    """Makes findings about one thing."""

    name: str

    def ok(self, check: str, found: str) -> Finding:
        return self._finding(check, Outcome.OK, found, "")

    def note(self, check: str, found: str, advice: str = "") -> Finding:
        return self._finding(check, Outcome.NOTE, found, advice)

    def failed(self, check: str, found: str, advice: str = "") -> Finding:
        return self._finding(check, Outcome.FAILED, found, advice)

    def _finding(self, check: str, outcome: Outcome, found: str, advice: str) -> Finding:
        """What others sent is on one line, not endless, and tells a terminal nothing."""
        plain = "".join(each if each.isprintable() else "?" for each in found)
        return Finding(self.name, check, outcome, plain[:_MOST] + "…" * (len(plain) > _MOST), advice)
