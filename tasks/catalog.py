"""The repositories that a run is about: from the rules, and from the catalog where they need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.matching import needs_catalog
from registry_server.oci.errors import MirrorflowError
from tasks.choosing import choose_repositories, literal_names, names_behind, unusable_names
from tasks.errors import is_stop

if TYPE_CHECKING:
    from tasks.images import SourceRepository
    from tasks.run import MirrorRun


@dataclass(frozen=True, slots=True)
class Catalog:
    """The wanted repositories; `problem` says why there may be more: the upstream refused its catalog, with
    `error`."""

    repositories: tuple[SourceRepository, ...]
    problem: str = ""
    error: MirrorflowError | None = None


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
    run.ledger.remark(
        f"{run.upstream.name}: its catalog has {number} no repository's by distribution-spec: {shown}"
    )
