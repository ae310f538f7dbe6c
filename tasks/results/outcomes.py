"""What came of a run, image by image: pure, from the record of the run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from registry_server.oci.manifest import total_size
from tasks.run.companion_values import CompanionStatus
from tasks.run.values import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.run.record import RunRecord
    from tasks.run.values import Progress


class Outcome(StrEnum):
    COPIED = "copied"
    FAILED = "failed"
    SKIPPED = "left out"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """One row of the report. `bytes_moved` came over the network for it; `size` is all its blobs.

    `stored` is the digest of the tag here, "" as long as it is not: `digest`, unless the image was converted.
    `was` is what the tag named here before, "" where it is new. `signed_by` says whose signatures counted for
    the verdict, `companions` what came along, or did not.
    """

    image: str
    upstream: str
    digest: str
    outcome: Outcome
    step: str
    reason: str
    bytes_moved: int
    size: int
    seconds: float
    verdict: str
    signed_by: Sequence[Mapping[str, Any]] = ()
    companions: Sequence[Mapping[str, Any]] = ()
    stored: str = ""
    was: str = ""


def outcomes(record: RunRecord) -> list[ImageOutcome]:
    """Every image that is not simply unchanged: failures first, then what was copied, by name."""
    moved = record.moved_for()
    rows = [_of_progress(progress, moved[name]) for name, progress in record.progress.items()]
    rows += [
        _unstarted(str(name), findings.source.name, reason, Outcome.FAILED)
        for findings in record.findings.values()
        for name, reason in findings.problems.items()
    ]
    rows += [
        _unstarted(str(name), findings.source.name, reason, Outcome.SKIPPED)
        for findings in record.findings.values()
        for name, reason in findings.declined.items()
    ]
    order = list(Outcome)
    order.insert(0, order.pop(order.index(Outcome.FAILED)))
    return sorted(rows, key=lambda row: (order.index(row.outcome), row.image))


def _of_progress(progress: Progress, moved: int) -> ImageOutcome:
    image, plan = progress.image, progress.plan
    outcome, reason = _judge(progress)
    return ImageOutcome(
        image=str(image.name),
        upstream=image.upstream_name,
        digest=str(image.digest),
        outcome=outcome,
        step=str(progress.failed_step or progress.step),
        reason=reason,
        bytes_moved=moved,
        size=total_size(plan.all_blobs) if plan else 0,
        seconds=round(progress.seconds, 3),
        verdict=progress.admission.verdict,
        signed_by=progress.admission.signed_by,
        companions=[each.to_json() for each in progress.companions.values()],
        stored=str(plan.root.digest) if outcome is Outcome.COPIED and plan and plan.manifests else "",
        was=str(image.was or ""),
    )


def _judge(progress: Progress) -> tuple[Outcome, str]:
    if progress.skipped:
        return Outcome.SKIPPED, progress.skipped
    if progress.step is Step.PUBLISHED:
        return Outcome.COPIED, _what_is_new(progress)
    if progress.error is not None:
        return Outcome.FAILED, str(progress.error)
    return Outcome.NOT_REACHED, "the run ended before its turn"


def _what_is_new(progress: Progress) -> str:
    if progress.image.held:
        copied = sum(each.outcome is CompanionStatus.COPIED for each in progress.companions.values())
        return f"{copied} new companion{'s' * (copied != 1)}"
    new = "moved to a new digest" if progress.image.was else "new"
    if progress.plan is None or not progress.plan.renamed:
        return new
    return f"{new}, converted from {progress.image.digest.short}"


def _unstarted(image: str, source: str, reason: str, outcome: Outcome) -> ImageOutcome:
    tag = image.rpartition("@" if "@" in image else ":")
    return ImageOutcome(image, f"{source}{tag[1]}{tag[2]}", "", outcome, "filter_tags", reason, 0, 0, 0.0, "")
