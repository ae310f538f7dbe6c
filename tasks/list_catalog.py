"""Step 1: which repositories there are upstream, and which of them the rules want, under which name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.matching import literal_repositories, mappings, matches_repository, needs_catalog, upstream_name
from registry_server.oci.errors import MirrorflowError
from tasks.run.errors import is_stop
from tasks.run.only import own_items, repository_of
from tasks.run.values import Catalog, SourceRepository, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from profiles.model.sync import RegistryEntry
    from profiles.values.shard import Shard
    from registry_server.oci.reference import RepositoryName
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
    if run.locked:
        return Catalog(tuple(choose_repositories(entry, {each.source for each in run.locked.values()})))
    if run.only:
        own = own_items(run.only, entry, run.shard)
        for item in sorted(run.only - own):
            run.live.remark(f"{item}: is left to the shard that it belongs to")
        return Catalog(tuple(choose_repositories(entry, names_behind(entry, own))))
    names = literal_names(entry)
    if not needs_catalog(entry):
        return Catalog(_own(run, choose_repositories(entry, names)))
    try:
        listed = list(run.upstream.repositories())
    except MirrorflowError as error:
        if not names or is_stop(error):
            raise
        return Catalog(_own(run, choose_repositories(entry, names)), str(error), error)
    _note_unusable(run, listed)
    return Catalog(_own(run, choose_repositories(entry, [*names, *listed])))


def _own(run: MirrorRun, chosen: list[SourceRepository]) -> tuple[SourceRepository, ...]:
    return tuple(chosen if run.shard is None else repositories_of_shard(run.shard, chosen))


def repositories_of_shard(shard: Shard, chosen: Sequence[SourceRepository]) -> list[SourceRepository]:
    """Its share. Repositories with a local name in common stay together, with the first of them by name:
    a poll record is for a local repository, and two runs at once would overwrite each other's.
    """
    first: dict[RepositoryName, str] = {}  # by local name
    for source in sorted(chosen, key=lambda each: each.name):
        names = {target.local for target in source.targets}
        groups = {first[name] for name in names if name in first}
        if len(groups) > 1:
            names |= {name for name, group in first.items() if group in groups}
        first.update(dict.fromkeys(names, min(groups, default=source.name)))
    return [source for source in chosen if shard.owns(first[source.targets[0].local])]


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
