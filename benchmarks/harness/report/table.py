"""The table for a terminal and for docs/benchmarks.md, and the rows of it that the README shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.report.rows import Row, Sample

_HEAD = ("benchmark", "what", "ours", "best peer or limit", "ratio", "goal", "verdict", "others")
_MARKDOWN = ("what", "ours", "best peer or limit", "ratio", "goal", "", "others")
# Benchmark, and what was measured. Rows that a peer wins are among them.
HEADLINES: Final = (
    ("nothing_new", "poll of 10,000 tags"),
    ("nothing_new", "poll of 10,000 tags: GETs of manifests"),
    ("one_blob", "1024 MiB over https, beside a socket"),
    ("first_mirror", "300 images, mirrorflow sync"),
    ("serve", "manifest by tag, 16 clients"),
    ("pull_through", "cold, 512 MiB, 8 clients at once"),
)


def render(rows: Sequence[Row]) -> str:
    """Columns of text."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[Row]) -> str:
    """For docs/benchmarks.md: the rows that have a peer or a budget."""
    return _table([row for row in rows if row.peers or row.budget is not None])


def headlines(rows: Sequence[Row]) -> str:
    """For the README: `HEADLINES`."""
    return _table([row for row in rows if row.is_named_in(HEADLINES)])


def _table(rows: Sequence[Row]) -> str:
    return "\n".join([_line(_MARKDOWN), _line(["---"] * len(_MARKDOWN)), *map(_markdown_row, rows)]) + "\n"


def _markdown_row(row: Row) -> str:
    benchmark, what, *others = _cells(row)
    return _line((f"{benchmark}: {what}", *others))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.benchmark,
        row.what,
        figure(row.ours, row.unit),
        f"{row.best} {figure(row.peer, row.unit)}" if row.peer else "",
        f"{row.ratio:.2f} x" if row.ratio is not None else "",
        row.budget.text if row.budget else "",
        row.verdict,
        _others(row),
    )


def _others(row: Row) -> str:
    """The other peers, and those that were not there."""
    there = [f"{name} {figure(peer, row.unit)}" for name, peer in list(row.present.items())[1:]]
    return "; ".join([*there, *(f"{name} is not on PATH" for name in row.absent)])


def figure(sample: Sample, unit: str) -> str:
    """The median, and how far the rounds lie apart where there were several."""
    apart = f" ({sample.spread:.0%})" if len(sample.values) > 1 and sample.spread >= 0.005 else ""
    return f"{_number(sample.median)} {unit}".rstrip() + apart


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
