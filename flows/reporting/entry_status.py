"""The state of each registry entry of a profile: was it run, did that succeed, is it recent enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from flows.reporting.tag_status import TagStatus
from registry_server.human_units import human_seconds
from tasks.list_catalog import choose_repositories, literal_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flows.reporting.last_runs import LastRun
    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry
    from profiles.values.poll_timing import PollTiming
    from registry_server.store.store import Store

# A run begins some seconds after its time, and a watchdog must not call that overdue.
_GRACE: Final = 0.1  # of the time between two polls


class EntryState(StrEnum):
    COMPLETE = "complete"
    FAILED = "failed"
    STOPPED = "stopped"
    OVERDUE = "overdue"
    LATE = "late"
    NEVER_RUN = "never run"
    ON_DEMAND = "on demand"
    NOT_MIRRORED = "not mirrored"


_IN_PLACE: Final = frozenset({EntryState.COMPLETE, EntryState.ON_DEMAND, EntryState.NOT_MIRRORED})


@dataclass(frozen=True, slots=True)
class EntryStatus:
    """`last` is the last run over the whole entry, or of each of its shards; None: there was none."""

    registry: str
    state: EntryState
    message: str
    last: LastRun | None = None

    @property
    def report(self) -> Mapping[str, Any]:
        """That of the last run, or the sum of several; empty: there was none."""
        return self.last.report if self.last else {}

    @property
    def in_place(self) -> bool:
        return self.state in _IN_PLACE

    @property
    def ended(self) -> float | None:
        """When the last run ended, in Unix seconds."""
        return None if self.last is None else _moment(self.report["ended"]).timestamp()

    def to_json(self) -> dict[str, Any]:
        report = self.report
        return {
            "registry": self.registry,
            "state": str(self.state),
            "message": self.message,
            "runId": report.get("runId", ""),
            "lastRun": report.get("ended"),
        }


def entry_statuses(
    profile: Profile, entries: Iterable[RegistryEntry], runs: Mapping[str, LastRun], now: float
) -> list[EntryStatus]:
    """One for each entry, in order; `now` in Unix seconds."""
    moment = datetime.fromtimestamp(now, UTC)
    return [_status(entry, runs.get(entry.name), moment, enabled=profile.sync.enable) for entry in entries]


def judged_by_objective(
    profile: Profile, statuses: Iterable[EntryStatus], known: Mapping[str, float], now: float
) -> list[EntryStatus]:
    """Entries that are in place and miss their objective are late.

    `known`: by registry entry, when the image that has gone longest without it was known to be what the
    upstream has (`oldest_known`); 0 for never.
    """
    limits = {entry.name: entry.objective.max_lag for entry in profile.sync.registries}
    return [_late(each, limits.get(each.registry), known.get(each.registry), now) for each in statuses]


def oldest_known(rows: Iterable[TagStatus]) -> dict[str, float]:
    """By registry entry, in Unix seconds; 0 for never. What the upstream no longer has cannot be late."""
    found: dict[str, float] = {}
    for row in rows:
        if row.gone_since is None:
            known = row.last_success or 0.0
            found[row.registry] = min(found.get(row.registry, known), known)
    return found


def _late(status: EntryStatus, limit: float | None, known: float | None, now: float) -> EntryStatus:
    if limit is None or known is None or status.state is not EntryState.COMPLETE or now - known <= limit:
        return status
    age = f"{human_seconds(now - known)} ago" if known else "never"
    words = f"late: an image was last known to be current {age}, and maxLag is {human_seconds(limit)}"
    return replace(status, state=EntryState.LATE, message=f"{words}; {status.message}")


def _status(entry: RegistryEntry, last: LastRun | None, now: datetime, *, enabled: bool) -> EntryStatus:
    if not enabled or not (entry.is_synced or entry.on_demand):
        why = "it has no content rules" if enabled else "`sync.enable` is false"
        return EntryStatus(entry.name, EntryState.NOT_MIRRORED, f"not mirrored: {why}", last)
    if not entry.is_synced:
        return EntryStatus(entry.name, EntryState.ON_DEMAND, "fetched on demand only", last)
    if last is None:
        return EntryStatus(entry.name, EntryState.NEVER_RUN, "never run: `mirrorflow sync` runs it")
    state, words = _judge(last, entry.timing, now)
    return EntryStatus(entry.name, state, words, last)


def _judge(last: LastRun, timing: PollTiming | None, now: datetime) -> tuple[EntryState, str]:
    report = last.report
    message = report["message"]
    if not last.is_complete:
        state = EntryState.STOPPED if report["state"] == "stopped" else EntryState.FAILED
        return state, message
    if report["state"] != "complete":
        message = f"{message}; in place since, by later runs"
    if timing is not None and is_overdue(timing, _moment(report["started"]), report["seconds"], now):
        age = human_seconds((now - _moment(report["ended"])).total_seconds())
        return EntryState.OVERDUE, f"overdue: the last success is {age} old, polled {timing}; {message}"
    return EntryState.COMPLETE, message


def is_overdue(timing: PollTiming, last: datetime, seconds: float, now: datetime) -> bool:
    """Whether `last` is longer ago than the schedule allows.

    A poll may take as long as the last one did (`seconds`), and begin a little late.
    """
    following = timing.next_due(now, now)
    between = timing.next_due(now, following) - following
    return timing.is_overdue(last, now - between * _GRACE - timedelta(seconds=seconds))


def new_repositories(store: Store, entry: RegistryEntry) -> Iterator[TagStatus]:
    """Repositories that the rules name and that no run of the entry has polled: a rule is newer than it."""
    for source in choose_repositories(entry, literal_names(entry)):
        for target in source.targets:
            polls = store.repository(target.local).polls()
            if not any(poll.registry == entry.name for poll in polls):
                problem = "a content rule names it, and no run has looked at it yet: run `mirrorflow sync`"
                yield TagStatus(entry.name, str(target.local), "", "", "", None, None, problem)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def requests_of(report: Mapping[str, Any]) -> dict[str, int]:
    """How many requests of each kind a run made; the report counts bytes beside them."""
    found: Mapping[str, int] = report.get("requests", {})
    return {kind: count for kind, count in found.items() if not _counts_bytes(kind)}


def _counts_bytes(kind: str) -> bool:
    """Those of a destination begin with its name: "ecr: bytes sent"."""
    return kind.rpartition(": ")[2].startswith("bytes")
