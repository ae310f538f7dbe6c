"""Bars: what each contender took or gave, a panel a row, so that one look says who is ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.report.rows import Better
from benchmarks.harness.report.table import figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.harness.report.rows import Row, Sample

# Benchmark, and what was measured: the panels of the picture in docs/benchmarks.md, in the order of a table.
SHOWN: Final = (
    ("nothing_new", "poll of 50 tags"),
    ("nothing_new", "poll of 10,000 tags"),
    ("one_blob", "1024 MiB over http"),
    ("one_blob", "1024 MiB over https"),
    ("first_mirror", "20 images, mirrorflow sync"),
    ("first_mirror", "300 images, mirrorflow sync"),
    ("serve", "1 blob of 1 GiB, 1 client"),
    ("serve", "manifest by tag, 16 clients"),
    ("pull_through", "cold, 512 MiB"),
    ("pull_through", "cold, 512 MiB, 8 clients at once"),
    ("pull_through", "small image, cold"),
    ("pull_through", "small image, warm"),
)
_OURS: Final = "#2f6f9f"
_THEIRS: Final = "#b8c2cc"
_INK: Final = "#24303c"
_COLUMNS: Final = 2
_BAR: Final = 0.27  # inches
_FRAME: Final = 0.72  # inches: title of a panel, and the space below it
_SAYS: Final = {Better.LESS: "less is better", Better.MORE: "more is better"}


def draw(title: str, rows: Sequence[Row], path: Path) -> bool:
    """An SVG of the rows that are compared; False when none is."""
    shown = [row for row in rows if row.ratio is not None]
    if not shown:
        return False
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mirrorflow"  # the same figures give the same file
    from matplotlib import pyplot as plt

    lines = [shown[at : at + _COLUMNS] for at in range(0, len(shown), _COLUMNS)]
    heights = [_FRAME + _BAR * max(1 + len(row.present) for row in line) for line in lines]
    figure, panels = plt.subplots(
        len(lines), _COLUMNS, figsize=(10, sum(heights) + 0.4), layout="constrained", squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=_INK)
    most = [max(1 + len(row.present) for row in line) for line in lines]
    for line, axes, bars in zip(lines, panels, most, strict=True):
        for row, each in zip(line, axes, strict=False):
            _panel(each, row, bars)
        for left in axes[len(line) :]:
            left.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)
    return True


def _panel(axes: Any, row: Row, bars: int) -> None:
    """Ours on top, then the peers, the best one first; a line goes from the lowest round to the highest."""
    contenders: list[tuple[str, Sample]] = [("mirrorflow", row.ours), *row.present.items()]
    longest = max(max(sample.values) for _, sample in contenders)
    for place, (name, sample) in enumerate(contenders):
        color = _THEIRS if place else _OURS
        axes.barh(place, sample.median, height=0.72, color=color)
        if len(sample.values) > 1:
            axes.plot([min(sample.values), max(sample.values)], [place, place], color=_INK, linewidth=0.8)
        end = max(sample.values) + 0.015 * longest
        axes.text(
            end, place, figure(sample, row.unit).partition(" (")[0], va="center", fontsize=7.5, color=_INK
        )
        axes.text(
            -0.015 * longest, place, name, va="center", ha="right", fontsize=7.5,
            color=_INK if place else _OURS, fontweight="normal" if place else "bold",
        )  # fmt: skip
    axes.set_ylim(bars - 0.4, -0.6)
    axes.set_xlim(0, 1.3 * longest)
    axes.set_axis_off()
    axes.set_title(f"{row.benchmark}: {row.what} ({_SAYS[row.better]})", loc="left", fontsize=8.5, color=_INK)
