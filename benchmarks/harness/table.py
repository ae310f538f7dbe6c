"""The table, for a terminal and for the README."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.rows import Row, Sample

_HEAD = ("benchmark", "what", "ours", "peer or limit", "", "ratio", "budget", "verdict")
_MARKDOWN = ("what", "ours", "peer or limit", "ratio", "budget", "")


def render(rows: Sequence[Row]) -> str:
    """Columns of text."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[Row]) -> str:
    """For the README: only rows that have something to be compared with."""
    lines = [_line(_MARKDOWN), _line(["---"] * len(_MARKDOWN))]
    for row in rows:
        if row.ratio is not None or row.budget is not None:
            benchmark, what, ours, peer, against, ratio, budget, verdict = _cells(row)
            other = f"{against} {peer}" if peer else ""
            lines.append(_line((f"{benchmark}: {what}", ours, other, ratio, budget, verdict)))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.benchmark,
        row.what,
        figure(row.ours, row.unit),
        figure(row.peer, row.unit) if row.peer else "",
        row.against,
        f"{row.ratio:.2f} x" if row.ratio is not None else "",
        row.budget.text if row.budget else "",
        row.verdict,
    )


def figure(sample: Sample, unit: str) -> str:
    """The median, and how far the rounds lie apart where there were several."""
    apart = f" ({sample.spread:.0%})" if len(sample.values) > 1 and sample.spread >= 0.005 else ""
    return f"{_number(sample.median)} {unit}".rstrip() + apart


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
