"""What is kept of a run: JSON with every figure, the table, and plots, which git ignores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.report.machine import sentence
from benchmarks.harness.report.reasons import reasons
from benchmarks.harness.report.table import headlines, markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.harness.report.rows import Row

RESULTS: Final = Path(__file__).parents[2] / "results"
README: Final = Path(__file__).parents[3] / "README.md"
DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "benchmarks.md"
_TABLE: Final = re.compile(r"(?<=<!-- benchmarks -->\n).*?(?=<!-- /benchmarks -->)", re.DOTALL)
# By the first word of the verdict.
_COLORS: Final = {"met": "#5aa469", "missed": "#d9534f", "": "#9aa5b1"}


def document(
    machine: Mapping[str, str], rows: Sequence[Row], problems: Mapping[str, str] | None = None
) -> dict[str, Any]:
    return {"machine": machine, "rows": [row.to_json() for row in rows], "problems": dict(problems or {})}


def keep(folder: Path, machine: Mapping[str, str], found: Mapping[str, Sequence[Row]]) -> None:
    """Write into `folder`. The documents show the results of the folder that is committed."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for each in found.values() for row in each]
    (folder / "results.json").write_text(json.dumps(document(machine, rows), indent=1) + "\n")
    why = reasons(rows)
    table = "\n".join(
        [markdown(rows), *([why] if why else []), f"Measured: {sentence(machine)}.\n", _upstreams(machine)]
    )
    (folder / "table.md").write_text(table)
    for name, each in found.items():
        draw(name, each, machine, folder / f"{name}.svg")
    if folder == RESULTS:
        DOCUMENT.write_text(in_place(DOCUMENT.read_text(), table))
        README.write_text(in_place(README.read_text(), headlines(rows)))


def _upstreams(machine: Mapping[str, str]) -> str:
    return f"Upstreams: {machine['upstreams']}.\n"


def in_place(text: str, table: str) -> str:
    """`text` with the table between its two marks."""
    return _TABLE.sub(lambda _: table, text)


def draw(name: str, rows: Sequence[Row], machine: Mapping[str, str], path: Path) -> bool:
    """An SVG of the rows that have a ratio; False when none has one."""
    shown = [row for row in rows if row.ratio is not None][::-1]
    if not shown:
        return False
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mirrorflow"  # the same figures give the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.42 * len(shown)), layout="constrained")
    for place, row in enumerate(shown):
        _bar(axes, place, row)
    axes.set_yticks(range(len(shown)), [f"{row.what}\nagainst {row.against}" for row in shown], fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    _scale(axes)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel("times as good as the peer; black: the rounds; blue: the budget; grey: none")
    axes.set_title(name, loc="left")
    figure.text(0.01, -0.02, _machine(machine), fontsize=6, va="top")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return True


def _scale(axes: Any) -> None:
    """Twice as good is as far from 1 as half as good, and noise around 1 looks like noise."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_xscale("log")
    axes.margins(x=0.12)
    left, right = axes.get_xlim()
    axes.set_xlim(min(left, 0.5), max(right, 2))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _bar(on: Any, place: int, row: Row) -> None:
    assert row.ratio is not None
    assert row.ratios is not None
    color = _COLORS[row.verdict.split(" ")[0].rstrip(":")]
    on.plot([1, row.ratio], [place, place], color=color, linewidth=7, solid_capstyle="butt")
    on.plot([min(row.ratios.values), max(row.ratios.values)], [place, place], color="black", linewidth=1)
    on.annotate(f"  {row.ratio:.2f} x", (max(*row.ratios.values, 1), place), fontsize=7, va="center")
    wanted = getattr(row.budget, "ratio", None)
    if wanted is not None:
        on.plot([wanted], [place], marker="|", markersize=14, color="tab:blue")


def _machine(machine: Mapping[str, str]) -> str:
    from textwrap import fill

    from benchmarks.harness.report.machine import sentence

    return fill(sentence(machine), 150)
