"""One line of the table: what was measured, against what, and whether that is good enough. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

Turn = TypeVar("Turn")


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


def side_by_side(
    turns: Mapping[str, Iterable[Turn]], value: Callable[[Turn], float], ours: str, peers: Iterable[str]
) -> tuple[Sample, dict[str, Sample | None]]:
    """What `value` gives of each turn: of ours, and of each peer, None for one that had no turn."""
    samples = {name: Sample.of(map(value, each)) for name, each in turns.items()}
    return samples[ours], {name: samples.get(name) for name in peers}


class Budget(Protocol):
    """What a row promises."""

    @property
    def text(self) -> str: ...

    def is_met(self, row: Row) -> bool: ...


@dataclass(frozen=True, slots=True)
class AtLeast:
    """So many times as good as the best peer."""

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
    """Not more than this on top of the best peer; in the row's unit."""

    extra: float
    unit: str = "s"

    @property
    def text(self) -> str:
        return f"<= peer + {self.extra:g} {self.unit}"

    def is_met(self, row: Row) -> bool:
        return row.peer is not None and row.ours.median - row.peer.median <= self.extra


class Better(Enum):
    """Which figures of a row are good."""

    LESS = "less"
    MORE = "more"
    NEITHER = "neither"  # they explain others, and there is no ratio


@dataclass(frozen=True, slots=True)
class Row:
    """`peers`: what they gave, by name; None for one that is not on PATH."""

    benchmark: str
    what: str
    unit: str
    ours: Sample
    peers: Mapping[str, Sample | None] = field(default_factory=dict)
    better: Better = Better.LESS
    budget: Budget | None = None

    def is_named_in(self, names: Collection[tuple[str, str]]) -> bool:
        """Pairs of a benchmark and what was measured."""
        return (self.benchmark, self.what) in names

    @property
    def present(self) -> dict[str, Sample]:
        """The peers that were there, the best one first."""
        there = {name: peer for name, peer in self.peers.items() if peer is not None}
        return dict(sorted(there.items(), key=lambda each: self._ratio_to(each[1])))

    @property
    def absent(self) -> list[str]:
        return [name for name, peer in self.peers.items() if peer is None]

    @property
    def best(self) -> str:
        """The peer that comes closest to us, or leaves us furthest behind; "" where there is none."""
        return next(iter(self.present), "")

    @property
    def peer(self) -> Sample | None:
        return self.present.get(self.best)

    def ratios_to(self, peer: Sample) -> Sample | None:
        """How many times as good as the peer we are, round by round: what slowed the machine down for a
        while slowed both. Above 1 we are better, whatever the unit."""
        if self.better is Better.NEITHER or not all((*peer.values, *self.ours.values)):
            return None
        more = self.better is Better.MORE
        pairs = zip(self.ours.values, peer.values, strict=False)  # a slow peer may have had fewer rounds
        return Sample.of(ours / other if more else other / ours for ours, other in pairs)

    def _ratio_to(self, peer: Sample) -> float:
        ratios = self.ratios_to(peer)
        return ratios.median if ratios else 0.0

    @property
    def ratios(self) -> Sample | None:
        """To the best peer."""
        return self.ratios_to(self.peer) if self.peer else None

    @property
    def ratio(self) -> float | None:
        return self.ratios.median if self.ratios else None

    @property
    def verdict(self) -> str:
        """`met`, by how much it is `missed`, or nothing where nothing was promised, or no peer was there."""
        if self.budget is None or (self.peers and self.peer is None):
            return ""
        return "met" if self.budget.is_met(self) else f"missed{_by_how_much(self)}"

    def to_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "what": self.what,
            "unit": self.unit,
            "ours": list(self.ours.values),
            "peers": {name: list(peer.values) if peer else None for name, peer in self.peers.items()},
            "best": self.best,
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
