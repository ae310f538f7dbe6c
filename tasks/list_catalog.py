"""Step 1: which repositories there are upstream, and which of them the rules want, under which name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.matching import literal_repositories, mappings, matches_repository, needs_catalog, upstream_name
from registry_server.oci.errors import MirrorflowError
from tasks.run.errors import is_stop
from tasks.run.only import repository_of
from tasks.run.values import Catalog, SourceRepository, Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from profiles.model.sync import RegistryEntry
    from tasks.context.mirror_run import MirrorRun


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


def wanted_repositories(run: MirrorRun) -> Catalog:
    """Literal names need no catalog, and lose nothing when there is none; only globs do.

    Raises the upstream's error if the catalog was all there was to go by.
    """
    entry = run.entry
    if run.only:
        return Catalog(tuple(choose_repositories(entry, names_behind(entry, run.only))))
    names = literal_names(entry)
    if not needs_catalog(entry):
        return Catalog(tuple(choose_repositories(entry, names)))
    try:
        listed = list(run.upstream.repositories())
    except MirrorflowError as error:
        if not names or is_stop(error):
            raise
        return Catalog(tuple(choose_repositories(entry, names)), str(error), error)
    _note_unusable(run, listed)
    return Catalog(tuple(choose_repositories(entry, [*names, *listed])))


def _note_unusable(run: MirrorRun, listed: list[str]) -> None:
    """Nobody can ask for them, and the mirror is complete without."""
    unusable = unusable_names(run.entry, listed)
    if not unusable:
        return
    shown = ", ".join(repr(name[:80]) for name in unusable[:3]) + (", …" if unusable[3:] else "")
    number = f"{len(unusable)} names that are" if unusable[1:] else "a name that is"
    run.live.remark(
        f"{run.upstream.name}: its catalog has {number} no repository's by distribution-spec: {shown}"
    )
