"""Step 2 of the flow: which tags the rules keep, and which of those have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.searching import search_all
from tasks.steps import NO_REMEMBERING, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from tasks.images import SourceRepository
    from tasks.run import MirrorRun


@task(name="filter_tags", task_run_name="tags of {label}", **NO_REMEMBERING)
def filter_tags(run: MirrorRun, sources: Sequence[SourceRepository], label: str) -> State[None]:
    """Apply the rules to the tags, and compare one HEAD of each survivor with the store."""
    changed = search_all(run, sources)
    return summary(f"{label}: {changed} changed")
