"""What a run has to say for itself when it ends. Kept in the store, and shown by Prefect and the terminal."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasks.results.outcomes import ImageOutcome, Outcome, outcomes
from tasks.run.companion_values import CompanionStatus
from tasks.run.dropped_tags import DroppedTags
from tasks.run.only import NOT_FOUND, own_items, search_errors, unmatched
from tasks.run.values import Step
from tasks.upstream.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiles.model.break_glass import BreakGlass
    from profiles.values.shard import Shard
    from registry_server.oci.errors import MirrorflowError
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.record import RunRecord
    from tasks.run.values import Findings, SourceRepository


@dataclass(frozen=True, slots=True)
class Report:
    """One run over one registry entry. Times in unix seconds; `images` are those that were not unchanged.

    `problems` make the run a failed one; `notes` do not.
    """

    registry: str
    run_id: str
    started: float
    ended: float
    only: tuple[str, ...]
    unchanged: int
    stopped: bool
    problems: tuple[str, ...]
    requests: Mapping[str, int]
    budget: str
    images: Sequence[ImageOutcome] = field(repr=False)
    break_glass: Sequence[Mapping[str, Any]] = ()
    notes: tuple[str, ...] = ()
    dropped: DroppedTags = field(default_factory=DroppedTags, repr=False)
    shard: Shard | None = None

    def count(self, outcome: Outcome) -> int:
        return sum(image.outcome is outcome for image in self.images)

    @property
    def total(self) -> int:
        """Every image that the rules want; what is left out for good is not among them."""
        return self.unchanged + len(self.images) - self.count(Outcome.SKIPPED)

    @property
    def in_place(self) -> int:
        return self.unchanged + self.count(Outcome.COPIED)

    @property
    def complete(self) -> bool:
        """Is my mirror complete? As far as this run was asked to look."""
        return self.in_place == self.total and not self.problems and not self.stopped

    @property
    def bytes_moved(self) -> int:
        return sum(image.bytes_moved for image in self.images)

    @property
    def bytes_saved(self) -> int:
        """Bytes of copied images that the store had already, under whatever name."""
        copied = (image for image in self.images if image.outcome is Outcome.COPIED)
        return sum(max(0, image.size - image.bytes_moved) for image in copied)

    @property
    def message(self) -> str:
        """The one line of the run's state: `1,198 of 1,200 images, 2 failed`."""
        if self.stopped:
            return f"stopped: {self.in_place:,} of {self.total:,} images are in place"
        parts = outcome_words(self._totals(), self.problems)
        if self.complete and self.total and not self.count(Outcome.COPIED):
            parts.append("nothing new")
        return ", ".join(parts)

    def _totals(self) -> dict[str, int]:
        return {
            "images": self.total,
            "inPlace": self.in_place,
            "failed": self.count(Outcome.FAILED),
            "leftOut": self.count(Outcome.SKIPPED),
            "notReached": self.count(Outcome.NOT_REACHED),
        }

    def to_json(self) -> dict[str, Any]:
        """The report file: see docs/reports.md for its fields."""
        return {
            "version": 1,
            "registry": self.registry,
            "shard": str(self.shard or ""),
            "runId": self.run_id,
            "started": _iso(self.started),
            "ended": _iso(self.ended),
            "seconds": round(self.ended - self.started, 3),
            "state": "stopped" if self.stopped else "complete" if self.complete else "failed",
            "message": self.message,
            "only": list(self.only),
            "totals": {
                **self._totals(),
                "unchanged": self.unchanged,
                "copied": self.count(Outcome.COPIED),
                "bytesMoved": self.bytes_moved,
                "bytesSaved": self.bytes_saved,
            },
            "requests": dict(self.requests),
            "budget": self.budget,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "droppedTags": dict(self.dropped.counts),
            "droppedExamples": dict(self.dropped.names),
            "breakGlass": list(self.break_glass),
            "images": [_camel(dataclasses.asdict(image)) for image in self.images],
        }


def outcome_words(totals: Mapping[str, int], problems: Sequence[str]) -> list[str]:
    """The parts of a message: `1,198 of 1,200 images`, `2 failed`. `totals` as in a report."""
    images = f"{totals['inPlace']:,} of {totals['images']:,} images"
    parts = [images] if totals["images"] or not problems else []
    kinds = (("failed", "failed"), ("notReached", "not reached"), ("leftOut", "left out"))
    parts += [f"{totals[key]:,} {words}" for key, words in kinds if totals[key]]
    parts += problems[:1]
    if more := len(problems[1:]):
        parts.append(f"and {more} more problem{'s' * (more > 1)}")
    return parts


def build_report(
    run: MirrorRun, record: RunRecord, *, started: float, run_id: str, failure: str = ""
) -> Report:
    """`failure` is what ended the run before its steps did."""
    problems = [failure] if failure else []
    found = list(record.findings.values())
    problems += [_told(source, error) for source, error in search_errors(run.only, found)]
    problems += unwanted(run, found)
    problems += lost_companions_of(record)
    return Report(
        registry=run.entry.name,
        run_id=run_id,
        started=started,
        ended=time.time(),
        only=tuple(sorted(run.only)),
        unchanged=sum(findings.unchanged for findings in found),
        stopped=run.stop.is_set(),
        problems=tuple(problems),
        requests=record.requests,
        budget=record.budget,
        images=outcomes(record),
        break_glass=[_glass(each, run.now()) for each in (run.sync.break_glass if run.sync else ())],
        notes=tuple(record.remarks),
        dropped=DroppedTags.sum(findings.dropped for findings in found),
        shard=run.shard,
    )


def _glass(entry: BreakGlass, now: float) -> dict[str, Any]:
    """The break-glass entries, in every report as long as they are in the profile."""
    expired = entry.has_expired(now)
    return {
        "digest": entry.digest,
        "reason": entry.reason,
        "expires": str(entry.expires),
        "expired": expired,
    }


def lost_companions_of(record: RunRecord) -> list[str]:
    """What accompanies images that are here, and did not come: the mirror is not complete without."""
    found = [f"{each.source.name}: {each.companions}" for each in record.findings.values() if each.companions]
    for progress in record.progress.values():
        lost = [each for each in progress.companions.values() if each.outcome is CompanionStatus.FAILED]
        if lost and progress.step is Step.PUBLISHED:
            more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
            found.append(f"{progress.image.name}: companion {lost[0].companion}{more}: {lost[0].reason}")
    return found


def unwanted(run: MirrorRun, found: Sequence[Findings]) -> list[str]:
    """Images that were asked for by name and that no rule takes: silence would look like success."""
    if run.stop.is_set() or search_errors(run.only, found):
        return []
    return [
        f"{item}: {NOT_FOUND}" for item in sorted(unmatched(own_items(run.only, run.entry, run.shard), found))
    ]


def _told(source: SourceRepository, error: MirrorflowError) -> str:
    return str(error) if isinstance(error, UpstreamError) else f"{source.name}: {error}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _camel(fields: dict[str, Any]) -> dict[str, Any]:
    return {_camel_key(key): value for key, value in fields.items()}


def _camel_key(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(part.title() for part in rest)
