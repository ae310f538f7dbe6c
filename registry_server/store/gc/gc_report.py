"""What garbage collection found, did, or would do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Kind = Literal["tag", "manifest", "marker", "blob", "leftover", "rehearsal"]


@dataclass(slots=True)
class Unneeded:
    """What one repository can do without. `tags`: tag -> reason; the others are digests, in this order."""

    repository: str
    tags: dict[str, str] = field(default_factory=dict)
    manifests: list[str] = field(default_factory=list)
    blobs: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.tags or self.manifests or self.blobs)


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing that goes (or would go): what, how many bytes, and why."""

    kind: Kind
    name: str
    reason: str
    size: int = 0


@dataclass(slots=True)
class GcReport:
    """What one collection did.

    Blobs (and their bytes) were `trashed` now, `purged` for good, or `restored` from the trash; `kept` are
    those that somebody needs. `records`: of old promotions, and what is remembered of other registries.
    """

    dry_run: bool = False
    started: float = 0.0
    seconds: float = 0.0
    tags: int = 0
    manifests: int = 0
    markers: int = 0
    trashed: int = 0
    trashed_bytes: int = 0
    purged: int = 0
    purged_bytes: int = 0
    restored: int = 0
    leftovers: int = 0
    records: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether every repository could be looked at."""
        return not self.problems

    def and_then(self, later: GcReport) -> GcReport:
        """Two collections as one."""
        counts = ("tags", "manifests", "markers", "trashed", "trashed_bytes", "purged", "purged_bytes")
        both = {
            name: getattr(self, name) + getattr(later, name)
            for name in (*counts, "restored", "leftovers", "records")
        }
        return replace(later, started=self.started, seconds=self.seconds + later.seconds, **both)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
