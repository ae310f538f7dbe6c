"""Tags that the rules leave out: how many for each reason, and the first few by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_SHOWN: Final = 3


@dataclass(slots=True)
class DroppedTags:
    """`names` has at most a few of each reason, as `repository:tag` upstream."""

    counts: Counter[str] = field(default_factory=Counter)
    names: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, reason: str, repository: str, tags: Collection[str]) -> None:
        """Nothing for no tags."""
        if tags:
            self._add(reason, len(tags), (f"{repository}:{tag[:128]}" for tag in tags))

    def _add(self, reason: str, count: int, names: Iterable[str]) -> None:
        self.counts[reason] += count
        room = _SHOWN - len(self.names[reason])
        self.names[reason] += [name for name, _ in zip(names, range(room), strict=False)]

    def lines(self) -> list[str]:
        """In words, a line for each reason."""
        return [
            f"{count:,} tag{'s' * (count != 1)} dropped: {reason} "
            f"({', '.join(self.names[reason])}{', …' if count > len(self.names[reason]) else ''})"
            for reason, count in self.counts.items()
        ]

    @classmethod
    def from_json(cls, counts: Mapping[str, int], names: Mapping[str, Sequence[str]]) -> DroppedTags:
        """From the fields of a report."""
        found = cls()
        for reason, count in counts.items():
            found._add(reason, count, names.get(reason, ()))
        return found

    @classmethod
    def sum(cls, found: Iterable[DroppedTags]) -> DroppedTags:
        """Those of several repositories together."""
        total = cls()
        for each in found:
            for reason, count in each.counts.items():
                total._add(reason, count, each.names[reason])
        return total
