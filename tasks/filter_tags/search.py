"""The search for changed images as a whole."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from tasks.filter_tags.changes import find_changes
from tasks.run.errors import NotWanted, StepFailed, TagNotRead, Unexpected, is_stop, only_error
from tasks.run.only import NOT_FOUND, search_errors, unmatched
from tasks.run.values import Findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry_server.oci.reference import ImageName
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import SourceRepository


log = logging.getLogger("mirrorflow.filter_tags")


def filter_repositories(
    run: MirrorRun, sources: Sequence[SourceRepository], before: Sequence[Findings] = ()
) -> list[Findings]:
    """Search every repository of the group; one that fails stops no other.

    `before`: what the last try answered. What is final there is not searched again. What a stop cut off is
    not in the answer.
    """
    known = {each.source.name: each for each in before}
    found = run.in_parallel(lambda source: _search(run, source, known.get(source.name)), sources)
    return [each for each in found if each.error is None or not is_stop(each.error)]


def _search(run: MirrorRun, source: SourceRepository, before: Findings | None) -> Findings:
    if before is not None and before.is_final:
        return before
    try:
        run.check_stopped()
        found = find_changes(run, source, before.heads if before else None)
    except MirrorflowError as error:
        return Findings(source, error=error)
    except Exception as error:
        log.exception("unexpected error for %s", source.name)
        return Findings(source, error=Unexpected(error))
    log.info("%s: %d changed, %d unchanged", source.name, len(found.changed), found.unchanged)
    return found


def failure_of(found: Sequence[Findings], only: frozenset[str] = frozenset()) -> MirrorflowError | None:
    """What failed of a group: repositories that could not be searched, tags that the upstream did not tell
    of, and items of `only` that are not there. `found` is all of a run that has `only`.
    """
    failures = {source.name: error for source, error in search_errors(only, found)}
    for each in found:
        failed = {str(name): _failure_of(each, name) for name in each.problems if name.reference}
        if failed:
            failures[each.source.name] = StepFailed(failed, of=len({**each.upstream, **each.problems}))
        elif each.passing:
            failures[each.source.name] = StepFailed(each.passing, of=len(each.upstream))
    if not failures:
        failures = {item: NotWanted(f"{item}: {NOT_FOUND}") for item in sorted(unmatched(only, found))}
    return only_error(failures, of=len(found)) if failures else None


def _failure_of(findings: Findings, name: ImageName) -> MirrorflowError:
    """The error of a tag; one that a retry cannot mend is known in words."""
    return findings.passing.get(str(name)) or TagNotRead(findings.problems[name])
