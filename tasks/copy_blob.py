"""Step 5 of the flow: the bytes that the store lacks, each digest once a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from registry_server.oci.errors import MirrorflowError
from tasks.copying import copy_one
from tasks.run import only_error
from tasks.steps import NO_REMEMBERING, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from tasks.copying import BlobJob
    from tasks.run import MirrorRun


def copy_all(run: MirrorRun, jobs: Sequence[BlobJob]) -> None:
    """Copy on the transfer threads; what is here already costs a look. Raises when all have been tried."""
    failures: dict[str, MirrorflowError] = {}
    for job, result in run.each(lambda job: copy_one(run, job), jobs):
        if isinstance(result, MirrorflowError):
            failures[job.blob.digest.short] = result
            run.ledger.blob_failed(job.blob.digest, job.image.source, result)
        else:
            run.ledger.blob_copied(job.blob.digest, job.image.source)
    if failures:
        raise only_error(failures, of=len(jobs))


@task(name="copy_blob", task_run_name="copy {label}", **NO_REMEMBERING)
def copy_blob(run: MirrorRun, jobs: Sequence[BlobJob], label: str) -> State[None]:
    """Fetch blobs into the store, resuming what an earlier run left; a retry repeats only what failed."""
    copy_all(run, jobs)
    return summary(f"{label}: {sum(job.blob.size for job in jobs):,} bytes are here")
