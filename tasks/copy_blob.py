"""Step 5 of the flow: the bytes that the store lacks, each digest once a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.copying import copy_all
from tasks.steps import NO_REMEMBERING, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from tasks.copying import BlobJob
    from tasks.run import MirrorRun


@task(name="copy_blob", task_run_name="copy {label}", **NO_REMEMBERING)
def copy_blob(run: MirrorRun, jobs: Sequence[BlobJob], label: str) -> State[None]:
    """Fetch blobs into the store, resuming what an earlier run left; a retry repeats only what failed."""
    copy_all(run, jobs)
    return summary(f"{label}: {sum(job.blob.size for job in jobs):,} bytes are here")
