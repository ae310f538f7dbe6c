"""Findings, drawn for a terminal. Texts of others never become markup."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from flows.doctor.findings import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from flows.doctor.findings import Finding

_STYLES = {Outcome.OK: "green", Outcome.NOTE: "yellow", Outcome.FAILED: "bold red"}


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
    failed = sum(each.outcome is Outcome.FAILED for each in findings)
    if failed:
        yield Text(f"{failed} of {len(findings)} checks failed", style="bold red")
    else:
        yield Text(f"all {len(findings)} checks passed", style="bold green")


def _said(finding: Finding) -> Text:
    return Text(finding.found) if not finding.advice else Text(f"{finding.found}\n→ {finding.advice}")
