"""Which tags and untagged manifests a repository keeps: zot's retention rules, decided without I/O.

The first policy whose repositories match is the repository's. Without one, or where it has no `keep_tags`,
every tag stays. A tag belongs to the first of `keep_tags` whose patterns take it; none: it goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tag, or an untagged manifest: its name, and when it was pushed and last pulled (unix seconds)."""

    name: str
    pushed: float
    pulled: float


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """What stays; one that is met is enough, and where none is given everything stays. In seconds."""

    pulled_within: float | None = None
    pushed_within: float | None = None
    most_recently_pulled: int | None = None
    most_recently_pushed: int | None = None

    def kept(self, candidates: Sequence[Candidate], now: float) -> set[str]:
        """Names of those that stay. What was never pulled counts as pulled when it was pushed."""
        if self == RetentionLimits():
            return {each.name for each in candidates}
        return {
            each.name
            for found in (
                _within(candidates, self.pulled_within, now, _pulled),
                _within(candidates, self.pushed_within, now, _pushed),
                _newest(candidates, self.most_recently_pulled, _pulled),
                _newest(candidates, self.most_recently_pushed, _pushed),
            )
            for each in found
        }


@dataclass(frozen=True, slots=True)
class KeepTags:
    """Tags that one set of limits is for."""

    takes: Callable[[str], bool]
    limits: RetentionLimits = RetentionLimits()


@dataclass(frozen=True, slots=True)
class RepositoryRetention:
    """The rules of some repositories."""

    repositories: Callable[[str], bool] = lambda _: True
    delete_referrers: bool = False
    delete_untagged: bool = True
    keep_tags: tuple[KeepTags, ...] = ()
    keep_untagged: RetentionLimits | None = None

    def expired_tags(self, tags: Sequence[Candidate], now: float) -> dict[str, str]:
        """Tags that go, and why."""
        if not self.keep_tags:
            return {}
        mine: dict[int, list[Candidate]] = {}
        for tag in tags:
            mine.setdefault(self._rule_of(tag.name), []).append(tag)
        expired = {tag.name: "no keepTags pattern takes it" for tag in mine.pop(-1, ())}
        for number, taken in mine.items():
            kept = self.keep_tags[number].limits.kept(taken, now)
            reason = f"keepTags[{number}] does not keep it"
            expired |= {tag.name: reason for tag in taken if tag.name not in kept}
        return expired

    def kept_untagged(self, manifests: Sequence[Candidate], now: float) -> set[str]:
        """Untagged manifests that stay although they are old."""
        if not self.delete_untagged:
            return {each.name for each in manifests}
        return self.keep_untagged.kept(manifests, now) if self.keep_untagged else set()

    def _rule_of(self, tag: str) -> int:
        return next((number for number, rule in enumerate(self.keep_tags) if rule.takes(tag)), -1)


@dataclass(frozen=True, slots=True)
class Retention:
    """All policies of a storage root. `delay` (seconds) is how long what is untagged stays anyway."""

    policies: tuple[RepositoryRetention, ...] = ()
    delay: float | None = None
    dry_run: bool = False

    def policy(self, repository: str) -> RepositoryRetention:
        """The first one that is for the repository, else one that keeps all tags."""
        return next((each for each in self.policies if each.repositories(repository)), RepositoryRetention())


def _pulled(candidate: Candidate) -> float:
    return max(candidate.pulled, candidate.pushed)


def _pushed(candidate: Candidate) -> float:
    return candidate.pushed


def _within(
    candidates: Iterable[Candidate], seconds: float | None, now: float, when: Callable[[Candidate], float]
) -> list[Candidate]:
    return [] if seconds is None else [each for each in candidates if when(each) >= now - seconds]


def _newest(
    candidates: Iterable[Candidate], count: int | None, when: Callable[[Candidate], float]
) -> list[Candidate]:
    if count is None:
        return []
    return sorted(candidates, key=lambda each: (-when(each), each.name))[:count]


# What a profile says of garbage collection; apart from it, because who only reads profiles needs no more.


@dataclass(frozen=True, slots=True)
class GcOptions:
    """Of one storage root. `delay`: how long what no manifest names is kept; `settle`: how long the look
    after the sweep waits for writers whose marker is on its way (seconds)."""

    enabled: bool = True
    delay: float = 3600.0
    settle: float = 2.0
    retention: Retention = field(default_factory=Retention)
