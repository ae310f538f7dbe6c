"""The last run of each registry entry over all of it, from the reports in the store. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tasks.run.only import is_asked_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEFT: Final = frozenset({"failed", "not reached"})
"""The outcomes of images that are not in place."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run that was asked for everything. `left`: its images that no later run put in place."""

    report: Mapping[str, Any]
    left: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Also when it failed for some images only, and runs for those have succeeded since."""
        state, problems = self.report["state"], self.report["problems"]
        return state == "complete" or (state == "failed" and not problems and not self.left)

    @property
    def to_rerun(self) -> tuple[str, ...]:
        """The images to run again; () means the whole entry, because the run did not see all of it."""
        saw_all = self.report["state"] != "stopped" and not self.report["problems"]
        return self.left if saw_all else ()


def last_runs(reports: Iterable[Mapping[str, Any]]) -> dict[str, LastRun]:
    """By registry entry; `reports` are oldest first, as the store gives them.

    A run for some images only says nothing of the others. It counts only for what an earlier run left.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    later: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for report in reports:
        if report["only"]:
            later[report["registry"]].append(report)
        else:
            newest[report["registry"]] = report
            later[report["registry"]].clear()
    return {name: LastRun(report, _left(report, later[name])) for name, report in newest.items()}


def _left(report: Mapping[str, Any], later: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    left = [image for image in report["images"] if image["outcome"] in LEFT]
    for run in later:
        outcomes = {image["image"]: image["outcome"] for image in run["images"]}
        left = [image for image in left if not _is_settled(image, run, outcomes)]
    return tuple(image["image"] for image in left)


def _is_settled(image: Mapping[str, Any], run: Mapping[str, Any], outcomes: Mapping[str, str]) -> bool:
    """Whether a later run put the image in place, or found that it is."""
    outcome = outcomes.get(image["image"])
    if outcome is not None:
        return outcome not in LEFT
    asked = is_asked_for(frozenset(run["only"]), image["image"], image["upstream"])
    return asked and run["state"] == "complete"
