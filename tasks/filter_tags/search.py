"""The search for changed images as a whole, and what `only` asked for that was not found."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from tasks.filter_tags.changes import find_changes
from tasks.list_catalog import is_asked_for, may_mean
from tasks.run.context import only_error
from tasks.run.errors import StepFailed, Unexpected, is_stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry_server.oci.reference import ImageName
    from tasks.run.context import MirrorRun
    from tasks.run.values import SourceRepository


log = logging.getLogger("mirrorflow.filter_tags")


def filter_repositories(run: MirrorRun, sources: Sequence[SourceRepository]) -> int:
    """Search every repository of the group that has not been searched; how many images have changed.

    Raises at the end, when the others are done, if a repository could not be listed, or if something failed
    that may pass: what was found until then is in the ledger all the same.
    """
    failures: dict[str, MirrorflowError] = {}
    changed = 0
    for source in run.ledger.unsearched(sources):
        run.check_stopped()
        try:
            findings = find_changes(run, source)
        except MirrorflowError as error:
            if is_stop(error):
                raise
            failures[source.name] = error
            run.ledger.search_failed(source, error)
        except Exception as error:
            log.exception("unexpected error for %s", source.name)
            failures[source.name] = Unexpected(error)
            run.ledger.search_failed(source, failures[source.name])
        else:
            run.ledger.found(findings)
            if findings.passing:
                of = len({**findings.upstream, **findings.problems})
                failures[source.name] = StepFailed(findings.passing, of=of)
            changed += len(findings.changed)
            log.info("%s: %d changed, %d unchanged", source.name, len(findings.changed), findings.unchanged)
    if failures:
        raise only_error(failures, of=len(sources))
    return changed


def unmatched(run: MirrorRun) -> set[str]:
    """The items of `only` for which no repository that was searched has anything."""
    if not run.only:
        return set()
    seen = [
        (str(name), f"{findings.source.name}{_separator(name)}{findings.upstream_reference(name)}")
        for findings in run.ledger.findings()
        for name in {**findings.upstream, **findings.problems}
    ]
    return {item for item in run.only if not any(is_asked_for(frozenset({item}), *names) for names in seen)}


def _separator(name: ImageName) -> str:
    return "@" if isinstance(name.reference, Digest) else ":"


def search_errors(run: MirrorRun) -> list[tuple[SourceRepository, MirrorflowError]]:
    """The repositories that could not be searched.

    `only` may name an image as it is called here or there, and both are tried: that the wrong one of the two
    repositories does not exist (or is forbidden, as some registries call it) is no error once the image was
    found in the other.
    """
    errors = run.ledger.search_errors()
    if not run.only:
        return errors
    open_items = unmatched(run)
    return [(source, error) for source, error in errors if any(may_mean(item, source) for item in open_items)]
