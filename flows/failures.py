"""What earlier runs left behind, from their reports: the images that a rerun is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.entries import find_entry, open_store
from flows.syncing import Wish
from tasks.errors import NotWanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from profiles.model import Profile

_LEFT = ("failed", "not reached")


def failed_wishes(profile: Profile, run: str | None) -> list[Wish]:
    """The images that failed in the run of this id, or in the newest run of each registry entry.

    A run that failed as a whole, or in a whole repository, is run again as a whole. Raises `NotWanted` for an
    unknown run.
    """
    reports = open_store(profile).reports.load_all()
    if run:
        chosen = [report for report in reports if report["runId"] == run]
        if not chosen:
            raise NotWanted(
                f"the store has no report of a run {run!r}; `mirrorflow status` lists the last runs"
            )
        chosen = chosen[-1:]
    else:
        names = {entry.name for entry in profile.sync.registries}
        chosen = [dict(report) for name, report in newest_reports(reports).items() if name in names]
    return [
        Wish(find_entry(profile, report["registry"]), left_behind(report))
        for report in chosen
        if report["state"] != "complete"
    ]


def newest_reports(reports: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The newest report of each registry entry; `reports` are oldest first, as the store gives them."""
    return {report["registry"]: report for report in reports}


def left_behind(report: Mapping[str, Any]) -> tuple[str, ...]:
    """The images of a report that are not in place; () means everything, because more than images failed."""
    if report["problems"] and not report["only"]:
        return ()
    left = tuple(image["image"] for image in report["images"] if image["outcome"] in _LEFT)
    return left or tuple(report["only"])
