"""The reports of the shards of a registry entry, added up to one of the whole entry. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from registry_server.counted import counted
from tasks.results.report import outcome_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def add_up(reports: Sequence[Mapping[str, Any]], missing: Sequence[str]) -> dict[str, Any]:
    """State, message, problems and times. `missing` are shards without a report.

    The times are those of the oldest run: since then all of the entry was looked at. The run is one that is
    not complete, where there is one.
    """
    oldest = min(reports, key=lambda report: str(report["started"]))
    told = next((report for report in reports if report["state"] != "complete"), oldest)
    states = {report["state"] for report in reports} | ({"failed"} if missing else set())
    problems = list(dict.fromkeys(problem for report in reports for problem in report["problems"]))
    return {
        "registry": oldest["registry"],
        "runId": told["runId"],
        "started": oldest["started"],
        "ended": oldest["ended"],
        "seconds": max(report["seconds"] for report in reports),
        "state": next((state for state in ("failed", "stopped") if state in states), "complete"),
        "problems": problems,
        "message": _message(reports, problems, missing),
    }


def _message(reports: Sequence[Mapping[str, Any]], problems: Sequence[str], missing: Sequence[str]) -> str:
    totals: Counter[str] = Counter()
    for report in reports:
        totals.update(report["totals"])
    words = outcome_words(totals, problems)
    words.append(f"in {counted(len(reports), 'run')}")
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3:,} more" if missing[3:] else "")
        words.append(f"{'shards' if missing[1:] else 'shard'} {shown} never ran")
    return ", ".join(words)
