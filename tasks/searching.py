"""How the search for changed images went, as a whole: what `only` asked for and was not found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.choosing import is_asked_for, may_mean

if TYPE_CHECKING:
    from registry_server.oci.errors import MirrorflowError
    from tasks.images import SourceRepository
    from tasks.run import MirrorRun


def unmet(run: MirrorRun) -> set[str]:
    """The items of `only` for which no repository that was searched has anything."""
    if not run.only:
        return set()
    seen = [
        (str(name), f"{findings.source.name}{str(name)[len(name.repository) :]}")
        for findings in run.ledger.findings()
        for name in {**findings.upstream, **findings.problems}
    ]
    return {item for item in run.only if not any(is_asked_for(frozenset({item}), *names) for names in seen)}


def search_errors(run: MirrorRun) -> list[tuple[SourceRepository, MirrorflowError]]:
    """The repositories that could not be searched.

    `only` may name an image as it is called here or there, and both are tried: that the wrong one of the two
    repositories does not exist (or is forbidden, as some registries call it) is no error once the image was
    found in the other.
    """
    errors = run.ledger.search_errors()
    if not run.only:
        return errors
    open_items = unmet(run)
    return [(source, error) for source, error in errors if any(may_mean(item, source) for item in open_items)]
