"""What a check found, and how the terminal shows it. Texts of others never become markup."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

_MOST = 500  # characters


class CheckStatus(StrEnum):
    """`note`: it works, and somebody should know; `failed`: something does not work."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is what was looked at, `found` what was seen, `advice` what to do about it, if anything."""

    subject: str
    check: str
    outcome: CheckStatus
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Subject:
    """Makes findings about one thing."""

    name: str

    def ok(self, check: str, found: str) -> Finding:
        return self._finding(check, CheckStatus.OK, found, "")

    def note(self, check: str, found: str, advice: str = "") -> Finding:
        return self._finding(check, CheckStatus.NOTE, found, advice)

    def failed(self, check: str, found: str, advice: str = "") -> Finding:
        return self._finding(check, CheckStatus.FAILED, found, advice)

    def _finding(self, check: str, outcome: CheckStatus, found: str, advice: str) -> Finding:
        """What others sent is on one line, not endless, and tells a terminal nothing."""
        plain = "".join(each if each.isprintable() else "?" for each in found)
        return Finding(self.name, check, outcome, plain[:_MOST] + "…" * (len(plain) > _MOST), advice)


_STYLES = {CheckStatus.OK: "green", CheckStatus.NOTE: "yellow", CheckStatus.FAILED: "bold red"}


def render(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    """A table for each subject, then the sum."""
    for subject, group in groupby(findings, key=lambda each: each.subject):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for each in group:
            table.add_row(
                Text(f"  {each.check}"), Text(each.outcome, style=_STYLES[each.outcome]), _said(each)
            )
        yield Text(subject, style="bold")
        yield table
        yield ""
    failed = sum(each.outcome is CheckStatus.FAILED for each in findings)
    if failed:
        yield Text(f"{failed} of {len(findings)} checks failed", style="bold red")
    else:
        yield Text(f"all {len(findings)} checks passed", style="bold green")


def _said(finding: Finding) -> Text:
    return Text(finding.found) if not finding.advice else Text(f"{finding.found}\n→ {finding.advice}")
