"""One line of the table: what was measured, against what, and whether that is good enough. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Sample:
    """What several rounds gave, in their order."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Sample:
        return cls(tuple(float(value) for value in values))

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """From the lowest to the highest, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


class Budget(Protocol):
    """What a row promises."""

    @property
    def text(self) -> str: ...

    def is_met(self, row: Row) -> bool: ...


@dataclass(frozen=True, slots=True)
class AtLeast:
    """So many times as good as the peer."""

    ratio: float
    says: str = ""

    @property
    def text(self) -> str:
        return self.says or f">= {self.ratio:g} x"

    def is_met(self, row: Row) -> bool:
        return row.ratio is not None and row.ratio >= self.ratio


@dataclass(frozen=True, slots=True)
class AtMost:
    """Not more than this, whatever the peer does; in the row's unit."""

    limit: float
    unit: str = ""

    @property
    def text(self) -> str:
        return f"<= {self.limit:g} {self.unit}".rstrip()

    def is_met(self, row: Row) -> bool:
        return row.ours.median <= self.limit


@dataclass(frozen=True, slots=True)
class Exactly:
    """This number, in every round."""

    number: float

    @property
    def text(self) -> str:
        return f"exactly {self.number:g}"

    def is_met(self, row: Row) -> bool:
        return all(value == self.number for value in row.ours.values)


@dataclass(frozen=True, slots=True)
class Beyond:
    """Not more than this on top of the peer; in the row's unit."""

    extra: float
    unit: str = "s"

    @property
    def text(self) -> str:
        return f"<= peer + {self.extra:g} {self.unit}"

    def is_met(self, row: Row) -> bool:
        return row.peer is not None and row.ours.median - row.peer.median <= self.extra


@dataclass(frozen=True, slots=True)
class Row:
    """`ratio` is how many times as good as the peer we are: above 1 we are better, whatever the unit."""

    benchmark: str
    what: str
    unit: str
    ours: Sample
    against: str = ""
    peer: Sample | None = None
    more_is_better: bool = False
    budget: Budget | None = None

    @property
    def ratios(self) -> Sample | None:
        """Round by round: what slowed the machine down for a while slowed both."""
        if self.peer is None or not all((*self.peer.values, *self.ours.values)):
            return None
        pairs = zip(self.ours.values, self.peer.values, strict=True)
        return Sample.of(ours / peer if self.more_is_better else peer / ours for ours, peer in pairs)

    @property
    def ratio(self) -> float | None:
        return self.ratios.median if self.ratios else None

    @property
    def verdict(self) -> str:
        """`met`, by how much it is `missed`, or nothing where nothing was promised."""
        if self.budget is None:
            return ""
        return "met" if self.budget.is_met(self) else f"missed{_by_how_much(self)}"

    def to_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "what": self.what,
            "unit": self.unit,
            "ours": list(self.ours.values),
            "against": self.against,
            "peer": list(self.peer.values) if self.peer else None,
            "ratio": self.ratio,
            "ratios": list(self.ratios.values) if self.ratios else None,
            "budget": self.budget.text if self.budget else None,
            "verdict": self.verdict,
        }


def _by_how_much(row: Row) -> str:
    if isinstance(row.budget, AtLeast) and row.ratio is not None:
        return f" by {1 - row.ratio / row.budget.ratio:.0%}"
    if isinstance(row.budget, AtMost):
        return f" by {row.ours.median / row.budget.limit - 1:.0%}"
    if isinstance(row.budget, Beyond) and row.peer is not None:
        return f": {row.ours.median - row.peer.median:.3g} {row.budget.unit} on top"
    return ""
