"""Plots of a mirror's reports, for notebooks/sync_report.ipynb; matplotlib is in the extra `notebooks`."""

from __future__ import annotations

from datetime import UTC, timedelta
from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from matplotlib import pyplot as plt
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from flows.notebook_support.sync_report import Freshness, RunBytes, RunOutcome

GOOD: Final = "#2f855a"
BAD: Final = "#c53030"
WAITING: Final = "#d69e2e"
CALM: Final = "#cbd5e0"
STRONG: Final = "#2b6cb0"
LIGHT: Final = "#90cdf4"
_OUTCOMES: Final = (("unchanged", CALM), ("copied", GOOD), ("failed", BAD), ("not_reached", WAITING))
_WIDTH: Final = 11.0  # inches
_REASON: Final = 125  # characters of a line of a reason


def draw_freshness(rows: Sequence[Freshness], total: int, in_place: int) -> None:
    """A bar a tag: since when it was last known to be what the upstream has; below a failed one why."""
    if not rows:
        return
    unit, an_hour = _unit(max((row.hours or 0.0 for row in rows), default=0.0))
    reasons = [wrap(row.problem, _REASON) for row in rows]
    heights = [1.0 + 0.62 * len(lines) for lines in reasons]
    axes = _axes(f"{in_place:,} of {total:,} tags are in place", height=0.27 * sum(heights) + 1.3)
    place, places = 0.0, []
    for row, lines, height in zip(rows, reasons, heights, strict=True):
        axes.barh(place, (row.hours or 0.0) * an_hour, height=0.55, color=BAD if row.problem else STRONG)
        _reason(axes, place, lines, "" if row.hours is not None else "never in place")
        places.append(place)
        place += height
    axes.set_yticks(places, [row.image for row in rows])
    axes.set_ylim(place, -0.8)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{unit} since the tag was last known to be what its upstream has")
    axes.grid(axis="x", color="#e2e8f0")


def _reason(axes: Any, place: float, lines: Sequence[str], age: str) -> None:
    beside = axes.get_yaxis_transform()  # x in parts of the width, y in rows
    if age:
        axes.text(0.006, place, age, va="center", color=BAD, fontsize=8.5, transform=beside)
    for number, line in enumerate(lines):
        axes.text(0.006, place + 0.72 + 0.6 * number, line, va="center", fontsize=8.5, transform=beside)


def draw_bytes(rows: Sequence[RunBytes], share: float) -> None:
    """A bar a run, at its time: bytes that were fetched, and on top those that need not be."""
    if not rows:
        return
    axes = _axes(f"{share:.0%} of the bytes of new images did not have to be fetched", height=3.6)
    moments, width = [row.ended for row in rows], _bar_width([row.ended for row in rows])
    moved = [row.moved / 1e6 for row in rows]
    axes.bar(moments, moved, width=width, color=STRONG, label="fetched")
    saved = [row.saved / 1e6 for row in rows]
    axes.bar(moments, saved, width=width, bottom=moved, color=LIGHT, label="shared or already stored")
    axes.set_ylabel("MB of blobs")
    _time_axis(axes, moments)
    _legend(axes)


def draw_outcomes(rows: Sequence[RunOutcome]) -> None:
    """A bar a run, at its time: images by outcome. A mark above those that did not complete."""
    if not rows:
        return
    complete = sum(row.state == "complete" for row in rows)
    axes = _axes(f"{complete:,} of {len(rows):,} runs were complete", height=3.6)
    moments, width = [row.ended for row in rows], _bar_width([row.ended for row in rows])
    below = [0] * len(rows)
    for name, color in _OUTCOMES:
        heights = [getattr(row, name) for row in rows]
        if any(heights):
            axes.bar(moments, heights, width=width, bottom=below, color=color, label=name.replace("_", " "))
        below = [low + height for low, height in zip(below, heights, strict=True)]
    top = max([*below, 1])
    marks = [high + top * 0.05 for row, high in zip(rows, below, strict=True) if row.state != "complete"]
    if marks:
        when = [row.ended for row in rows if row.state != "complete"]
        axes.scatter(when, marks, marker="v", color=BAD, label="not complete", zorder=3)
    axes.set_ylim(0, top * 1.15)
    axes.set_ylabel("images")
    _time_axis(axes, moments)
    _legend(axes)


def draw_reasons(reasons: Sequence[tuple[str, int]]) -> None:
    """A bar a reason, the commonest first, with all of its words."""
    if not reasons:
        return
    lines = [wrap(reason, _REASON) for reason, _ in reasons]
    total = sum(count for _, count in reasons)
    heights = [1.0 + 0.62 * len(each) for each in lines]
    axes = _axes(f"{total:,} failures, by reason", height=0.27 * sum(heights) + 1.3)
    place, places = 0.0, []
    for (_, count), words, height in zip(reasons, lines, heights, strict=True):
        axes.barh(place, count, height=0.55, color=BAD)
        _reason(axes, place, words, "")
        places.append(place)
        place += height
    axes.set_yticks(places, [f"{count:,}" for _, count in reasons])
    axes.set_ylim(place, -0.8)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _axes(title: str, *, height: float) -> Any:
    _, axes = plt.subplots(figsize=(_WIDTH, height), layout="constrained")
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=14)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, labelsize=9)
    axes.set_axisbelow(True)
    return axes


def _unit(hours: float) -> tuple[str, float]:
    """A unit in which the longest bar is a few, and how many of it an hour has."""
    for unit, an_hour in (("days", 1 / 24), ("hours", 1.0), ("minutes", 60.0)):
        if hours * an_hour >= 2:
            return unit, an_hour
    return "seconds", 3600.0


def _bar_width(moments: Sequence[datetime]) -> timedelta:
    """As wide as the nearest two runs allow, but visible: at least a 120th of the axis."""
    gaps = [later - sooner for sooner, later in pairwise(moments) if later > sooner]
    span = max(moments) - min(moments)
    return max(min(gaps, default=timedelta(minutes=1)) * 0.8, span / 120)


def _time_axis(axes: Any, moments: Sequence[datetime]) -> None:
    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call] # matplotlib.dates has no types
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call] # as above
    margin = max((max(moments) - min(moments)) * 0.03, _bar_width(moments))
    axes.set_xlim(min(moments) - margin, max(moments) + margin)
    axes.set_xlabel("end of the run, UTC")
    axes.grid(axis="y", color="#e2e8f0")


def _legend(axes: Any) -> None:
    """Above the plot, so that all plots over time have one width."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=5, frameon=False, fontsize=9)
