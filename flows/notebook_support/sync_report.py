"""What the reports and records of a store say, as rows to be plotted: for notebooks/sync_report.ipynb."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.entries import open_store
from flows.reporting.mirror_status import mirror_status
from flows.reporting.tag_status import tag_statuses
from profiles.loader import load_profile
from registry_server.human_units import human_seconds
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flows.reporting.tag_status import TagStatus
    from registry_server.store.store import Store

DEMO: Final = Path("mirrorflow-demo/demo.yaml")
"""Where `make demo` leaves its profile, seen from the top of the repository."""
_OTHERS: Final = "others"


@dataclass(frozen=True, slots=True)
class Freshness:
    """How long ago a tag was last known to be what its upstream has; `hours` None: never."""

    registry: str
    image: str
    hours: float | None
    problem: str


@dataclass(frozen=True, slots=True)
class RunBytes:
    """Bytes of blobs of one run: that came over the network, and that need not come.

    What an earlier run had fetched for an image that it did not finish is neither: it was counted there.
    """

    registry: str
    ended: datetime
    moved: int
    saved: int


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Images of one run by outcome; `failed` counts problems of whole repositories as well."""

    registry: str
    ended: datetime
    state: str
    copied: int
    unchanged: int
    failed: int
    not_reached: int


def find_profile(folder: Path | None = None) -> Path:
    """The profile that MIRRORFLOW_PROFILE names, else the demo's, above `folder` (the current one)."""
    if named := os.environ.get("MIRRORFLOW_PROFILE"):
        return Path(named)
    start = (folder or Path.cwd()).absolute()
    candidates = [parent / DEMO for parent in (start, *start.parents)]
    return next((path for path in candidates if path.exists()), candidates[0])


def profile_store(profile: Path) -> Store:
    """The store of a profile, which must be there. Raises `ProfileError`, `StoreError`."""
    return open_store(load_profile(profile).profile, create=False)


@contextmanager
def error_as_sentence() -> Iterator[None]:
    """An error of mirrorflow is a sentence in the notebook, not a traceback; and ends the block."""
    try:
        yield
    except MirrorflowError as error:
        print(error)  # noqa: T201 - the output of a notebook


def summary(profile: Path, now: float) -> Iterator[str]:
    """Whether the mirror is complete, then a line an entry; `now` in Unix seconds."""
    status = mirror_status(load_profile(profile), None, now)
    verdict = "complete" if status.is_complete else "NOT complete"
    in_place = sum(tag.in_place for tag in status.tags)
    yield f"The mirror is {verdict}: {in_place:,} of {len(status.tags):,} tags are in place."
    for entry in status.entries:
        age = f" (last run {human_seconds(max(0.0, now - entry.ended))} ago)" if entry.ended else ""
        yield f"  {entry.registry}: {entry.message}{age}"


def freshness(tags: Iterable[TagStatus], now: float) -> list[Freshness]:
    """One row a tag: what is not in place, then the others, the stalest first; `now` in unix seconds."""
    rows = [
        Freshness(
            registry=tag.registry,
            image=f"{tag.repository}:{tag.reference}" if tag.reference else tag.repository,
            hours=None if tag.last_success is None else max(0.0, now - tag.last_success) / 3600,
            problem=tag.problem,
        )
        for tag in tags
    ]
    return sorted(
        rows, key=lambda row: (not row.problem, row.hours is not None, -(row.hours or 0.0), row.image)
    )


def store_freshness(store: Store, now: float) -> list[Freshness]:
    """`freshness` of every tag of a store."""
    return freshness(tag_statuses(store), now)


def run_bytes(reports: Iterable[Mapping[str, Any]]) -> list[RunBytes]:
    """One row a report, in the order given: oldest first, or resumed bytes are not recognised."""
    begun: Counter[tuple[str, str]] = Counter()  # bytes of images that are not finished, by name and digest
    rows = []
    for report in reports:
        saved = sum(_saved(image, begun) for image in report["images"])
        rows.append(RunBytes(report["registry"], _ended(report), report["totals"]["bytesMoved"], saved))
    return rows


def _saved(image: Mapping[str, Any], begun: Counter[tuple[str, str]]) -> int:
    key, moved = (image["image"], image["digest"]), int(image["bytesMoved"])
    if image["outcome"] != "copied":
        begun[key] += moved
        return 0
    return max(0, int(image["size"]) - moved - begun.pop(key, 0))


def run_outcomes(reports: Iterable[Mapping[str, Any]]) -> list[RunOutcome]:
    """One row a report, in the order given."""
    return [
        RunOutcome(
            registry=report["registry"],
            ended=_ended(report),
            state=report["state"],
            copied=totals["copied"],
            unchanged=totals["unchanged"],
            failed=totals["failed"] + len(report["problems"]),
            not_reached=totals["notReached"],
        )
        for report in reports
        for totals in [report["totals"]]
    ]


def failure_reasons(reports: Iterable[Mapping[str, Any]], *, most: int = 8) -> list[tuple[str, int]]:
    """Why images and repositories failed, the commonest reason first; the rest added up as "others"."""
    counts = Counter(reason for report in reports for reason in _reasons(report))
    rows = counts.most_common(most)
    rest = counts.total() - sum(count for _, count in rows)
    return [*rows, (_OTHERS, rest)] if rest else rows


def saved_share(rows: Sequence[RunBytes]) -> float:
    """The part, 0 to 1, of the bytes of new images that deduplication saved."""
    moved, saved = sum(row.moved for row in rows), sum(row.saved for row in rows)
    return saved / (moved + saved) if moved + saved else 0.0


def _reasons(report: Mapping[str, Any]) -> list[str]:
    return [
        *(image["reason"] for image in report["images"] if image["outcome"] == "failed"),
        *report["problems"],
    ]


def _ended(report: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(report["ended"])
