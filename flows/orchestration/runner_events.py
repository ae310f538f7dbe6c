"""What the runner tells `up`: one JSON object a line, each a sentence that a person may read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flows.orchestration.deployments import Changes, Definition


_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class EntrySchedule:
    """A deployment: `timing` in words ("" without a schedule), `due` its next run by schedule in unix
    seconds (None without one), `started` whether a run begins now, `paused` whether a user has paused it.
    `work_pool` is the pool whose workers run it; "": `up` does."""

    name: str
    timing: str
    due: float | None
    started: bool
    paused: bool = False
    work_pool: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentsApplied:
    """All deployments are as the profile says."""

    kind: ClassVar[str] = "applied"
    entries: tuple[EntrySchedule, ...]

    @classmethod
    def of(cls, changes: Changes) -> Self:
        return cls(
            tuple(
                EntrySchedule(
                    each.name,
                    str(each.timing) if each.timing else "",
                    each.due.timestamp() if each.due else None,
                    each.started,
                    each.paused,
                    each.work_pool or "",
                )
                for each in changes.applied
            )
        )


@dataclass(frozen=True, slots=True)
class LeftoversCleared:
    """What an earlier process left over: runs marked as crashed, late runs dropped."""

    kind: ClassVar[str] = "cleared"
    crashed: int
    dropped: int


@dataclass(frozen=True, slots=True)
class ProfileChanged:
    """A changed profile was taken over. Names of entries; `entries`: all, as in `DeploymentsApplied`."""

    kind: ClassVar[str] = "changed"
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    entries: tuple[EntrySchedule, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class ProfileRefused:
    """A changed profile was not taken over: the old one stays."""

    kind: ClassVar[str] = "refused"
    message: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run of an entry reached a final state. `failed`: a line for each of the first images that failed."""

    kind: ClassVar[str] = "run"
    name: str
    state: str
    message: str
    failed: tuple[str, ...] = ()


def failed_lines(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Image, step and reason of what failed in a run, and what to do. () when nothing did."""
    failed = [image for image in report["images"] if image["outcome"] == "failed"]
    lines = [f"{image['image']}: {image['step']}: {image['reason']}" for image in failed[:_SHOWN]]
    more = f"{len(failed) - _SHOWN:,} more; " if len(failed) > _SHOWN else ""
    return (*lines, f"{more}`mirrorflow rerun PROFILE` tries them again") if failed else ()


@dataclass(frozen=True, slots=True)
class RunnerFailed:
    """The runner ends with this error."""

    kind: ClassVar[str] = "failed"
    message: str


RunnerEvent = (
    DeploymentsApplied | LeftoversCleared | ProfileChanged | ProfileRefused | RunEnded | RunnerFailed
)
_KINDS: dict[str, type[RunnerEvent]] = {
    each.kind: each
    for each in (DeploymentsApplied, LeftoversCleared, ProfileChanged, ProfileRefused, RunEnded, RunnerFailed)
}


class EventWriter:
    """Writes reports to a file descriptor; nobody reading them is no reason to stop mirroring."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, report: RunnerEvent) -> None:
        line = json.dumps({"kind": report.kind, **asdict(report)}) + "\n"
        try:
            os.write(self._descriptor, line.encode())
        except OSError:
            return


def read_event(line: str) -> RunnerEvent:
    """The report that a line says. Raises KeyError, TypeError or ValueError for anything else."""
    fields = json.loads(line)
    kind = _KINDS[fields.pop("kind")]
    for name, value in fields.items():
        if name == "entries":
            fields[name] = tuple(EntrySchedule(**entry) for entry in value)
        elif isinstance(value, list):
            fields[name] = tuple(value)
    return kind(**fields)


def compare(
    before: Iterable[Definition], after: Iterable[Definition], applied: DeploymentsApplied, *, note: str = ""
) -> ProfileChanged:
    """Which registry entries a new profile adds, changes and removes."""
    old = {definition.name: definition for definition in before}
    new = {definition.name: definition for definition in after}
    return ProfileChanged(
        added=tuple(name for name in new if name not in old),
        changed=tuple(name for name in new if name in old and new[name] != old[name]),
        removed=tuple(name for name in old if name not in new),
        entries=applied.entries,
        note=note,
    )
