"""Step 2 of the flow: which tags the rules keep, and which of those have changed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prefect import task

from registry_server.oci.errors import MirrorflowError
from tasks.errors import Unexpected, is_stop
from tasks.finding import find_changes
from tasks.run import only_error
from tasks.steps import NO_REMEMBERING, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from tasks.images import SourceRepository
    from tasks.run import MirrorRun

log = logging.getLogger("mirrorflow.filter_tags")


def search_all(run: MirrorRun, sources: Sequence[SourceRepository]) -> int:
    """Search every repository of the group that has not been searched; how many images have changed.

    Raises at the end, when the others are done, if a repository could not be listed.
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
            changed += len(findings.changed)
            log.info("%s: %d changed, %d unchanged", source.name, len(findings.changed), findings.unchanged)
    if failures:
        raise only_error(failures, of=len(sources))
    return changed


@task(name="filter_tags", task_run_name="tags of {label}", **NO_REMEMBERING)
def filter_tags(run: MirrorRun, sources: Sequence[SourceRepository], label: str) -> State[None]:
    """Apply the rules to the tags, and compare one HEAD of each survivor with the store."""
    changed = search_all(run, sources)
    return summary(f"{label}: {changed} changed")
