"""The last run of each registry entry over all of it, shards added up, from reports in the store. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flows.entries import part_name
from profiles.values.shard import Shard
from registry_server.counted import counted
from tasks.results.report import outcome_words
from tasks.run.only import is_asked_for, repository_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LEFT: Final = frozenset({"failed", "not reached"})
"""The outcomes of images that are not in place."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest runs that were together asked for everything: one, or one for each shard.

    `left`: their images that no later run put in place. `missing`: the shards that have never run.
    """

    reports: tuple[Mapping[str, Any], ...]
    left: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def report(self) -> Mapping[str, Any]:
        """Of the whole entry. Of several runs it is a sum, without what only a single run can tell."""
        if len(self.reports) == 1 and not self.missing:
            return self.reports[0]
        return add_up(self.reports, self.missing)

    @property
    def is_complete(self) -> bool:
        """Also when it failed for some images only, and runs for those have succeeded since."""
        saw_all = all(each["state"] != "stopped" and not each["problems"] for each in self.reports)
        return saw_all and not self.left and not self.missing

    @property
    def to_rerun(self) -> tuple[str, ...]:
        """The images to run again; () means the whole entry, because the runs did not see all of it."""
        saw_all = all(each["state"] != "stopped" and not each["problems"] for each in self.reports)
        return self.left if saw_all and not self.missing else ()


def last_runs(reports: Iterable[Mapping[str, Any]], shards: Mapping[str, int]) -> dict[str, LastRun]:
    """By registry entry; `reports` are oldest first, as the store gives them. `shards` has the number of
    shards of each entry that is divided.

    A run for some images only says nothing of the others. It counts only for what an earlier run left. A
    run of a shard counts as long as the entry has that many shards, and a run without a shard for each.
    """
    by_entry: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for report in reports:
        by_entry[report["registry"]].append(report)
    found = {name: _last_run(runs, shards.get(name, 1)) for name, runs in by_entry.items()}
    return {name: last for name, last in found.items() if last is not None}


def _last_run(runs: Sequence[Mapping[str, Any]], shards: int) -> LastRun | None:
    parts = [str(shard or "") for shard in Shard.all_of(shards)]
    newest: dict[str, int] = {}  # by part: its place among the runs
    for number, run in enumerate(runs):
        if not run["only"]:
            newest |= {part: number for part in parts if _shard(run) in ("", part)}
    if not newest:
        return None
    counted = [run for run in runs if run["only"] or _shard(run) in ("", *parts)]
    chosen = [runs[number] for number in sorted(set(newest.values()))]
    left = [image for run in chosen for image in _left(run, counted[_place(run, counted) + 1 :])]
    missing = tuple(part for part in parts if part not in newest)
    return LastRun(tuple(chosen), tuple(dict.fromkeys(left)), missing)


def _shard(run: Mapping[str, Any]) -> str:
    """Reports of older versions do not name one."""
    return str(run.get("shard", ""))


def _place(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> int:
    return next(number for number, each in enumerate(runs) if each is run)


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
    shard = _shard(run)
    if shard and not Shard.parse(shard).owns(repository_of(image["upstream"])):
        return False
    if not run["only"]:  # what it saw and does not name is unchanged
        return run["state"] != "stopped" and not run["problems"]
    return run["state"] == "complete" and is_asked_for(
        frozenset(run["only"]), image["image"], image["upstream"]
    )


def outdated_parts(names: Iterable[str], registry: str, shards: int) -> list[str]:
    """Of these parts with reports: the shards of another number, which no command looks at any more.

    None as long as a part of the present number has no report: until then they are what there is to see.
    """
    found = set(names)
    present = {part_name(registry, shard) for shard in Shard.all_of(shards)}
    if not present <= found:
        return []
    old = re.compile(re.escape(registry) + r":[0-9]+-of-[0-9]+")
    return sorted(name for name in found - present if old.fullmatch(name))


def add_up(reports: Sequence[Mapping[str, Any]], missing: Sequence[str]) -> dict[str, Any]:
    """The reports of the shards of an entry, as one: state, message, problems and times.

    `missing` are shards without a report.

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
