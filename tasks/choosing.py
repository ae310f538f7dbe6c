"""Which repositories of an upstream the rules want, and where: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.matching import literal_repositories, mappings, matches_repository, upstream_name
from tasks.images import SourceRepository, Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from profiles.sync import RegistryEntry


def literal_names(entry: RegistryEntry) -> list[str]:
    """Repositories that the rules name outright: they need no catalog."""
    return sorted({name for rule in entry.content for name in literal_repositories(rule)})


def choose_repositories(entry: RegistryEntry, names: Iterable[str]) -> list[SourceRepository]:
    """Every place that the rules want each name in; names that no rule takes are left out."""
    chosen = []
    for name in sorted(set(names)):
        targets = tuple(Target(rule, local) for rule, local in mappings(entry, name))
        if targets:
            chosen.append(SourceRepository(name, targets))
    return chosen


def unusable_names(entry: RegistryEntry, names: Iterable[str]) -> list[str]:
    """Names that a rule means, and under which nothing can be asked for or kept: `a/../b`, `Upper`."""
    return sorted(
        name
        for name in set(names)
        if not mappings(entry, name) and any(matches_repository(rule, name) for rule in entry.content)
    )


def names_behind(entry: RegistryEntry, only: Iterable[str]) -> list[str]:
    """The upstream repositories that `only` may mean: its items are our names or the upstream's."""
    names = set()
    for item in only:
        repository = repository_of(item)
        names.add(repository)
        names.update(filter(None, (upstream_name(rule, repository) for rule in entry.content)))
    return sorted(names)


def repository_of(image: str) -> str:
    """`library/nginx:1.25` and `library/nginx@sha256:…` -> `library/nginx`."""
    return image.partition("@")[0].partition(":")[0]


def may_mean(item: str, source: SourceRepository) -> bool:
    """Whether an item of `only` may stand for an image of this repository, by its name there or here."""
    return repository_of(item) in {source.name, *(target.local for target in source.targets)}


def is_asked_for(only: frozenset[str], *names: str) -> bool:
    """Whether an image is meant by `only` (empty: all are), under any of its names or by its repository."""
    return not only or any(name in only or repository_of(name) in only for name in names)
