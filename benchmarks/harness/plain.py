"""One sync through the plain functions: the steps of the DAG on threads, without Prefect.

`python -m benchmarks.harness.plain PROFILE` does it in a process of its own, which is what is measured, and
prints what it found as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.entries import open_store
from profiles.loader import load_profile
from registry_server.oci.errors import MirrorflowError
from tasks.copy_blob import claim_jobs, copy_all
from tasks.filter_tags.search import filter_repositories
from tasks.list_catalog import wanted_repositories
from tasks.pipeline import convert_images, publish_images, verify_images
from tasks.run.context import open_run
from tasks.run.grouping import group, pack
from tasks.run.poll_records import record_polls
from tasks.run.report import build_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from registry_server.oci.digest import Digest
    from tasks.copy_blob import BlobJob
    from tasks.run.context import MirrorRun
    from tasks.run.values import Image

_THREADS = 128  # as the flow has


def main() -> None:
    began, used = time.perf_counter(), time.process_time()
    profile = load_profile(Path(sys.argv[1])).profile
    started = time.time()
    with open_run(profile, profile.sync.registries[0], open_store(profile)) as run:
        with ThreadPoolExecutor(_THREADS) as threads:
            _search(run, threads)
            _bring_in(run, threads)
        record_polls(run)
        report = build_report(run, started=started, run_id="", failure="").to_json()
    print(json.dumps(_summary(report, time.perf_counter() - began, time.process_time() - used)))


def _summary(report: dict[str, Any], wall: float, cpu: float) -> dict[str, Any]:
    told = {key: report[key] for key in ("state", "message", "totals", "requests")}
    return {"wall": wall, "cpu": cpu, **told}


def _search(run: MirrorRun, threads: ThreadPoolExecutor) -> None:
    repositories = wanted_repositories(run).repositories
    wait([threads.submit(_quietly, filter_repositories, run, members) for members in group(repositories)])


def _bring_in(run: MirrorRun, threads: ThreadPoolExecutor) -> None:
    """As flows/dag.py: what becomes known of one group moves on, and does not wait for the others."""
    chains = {threads.submit(_prepare, run, images): images for images in group(run.ledger.changed())}
    copying: dict[Digest, Future[None]] = {}
    published = []
    for chain in as_completed(chains):
        images = chains[chain]
        for jobs in _packs(run, images):
            copy = threads.submit(_quietly, copy_all, run, jobs)
            copying.update((job.blob.digest, copy) for job in jobs)
        awaited = _copies_of(run, images, copying)
        published.append(threads.submit(_publish, run, images, awaited))
    wait(published)


def _prepare(run: MirrorRun, images: Sequence[Image]) -> None:
    _quietly(verify_images, run, images)
    _quietly(convert_images, run, images)


def _packs(run: MirrorRun, images: Sequence[Image]) -> list[tuple[BlobJob, ...]]:
    jobs = {job.blob.digest: job for job in claim_jobs(run, images)}
    packs = pack((job.blob for job in jobs.values()), images=len(images))
    return [tuple(jobs[blob.digest] for blob in blobs) for blobs in packs]


def _copies_of(
    run: MirrorRun, images: Sequence[Image], copying: dict[Digest, Future[None]]
) -> list[Future[None]]:
    plans = [plan for image in images if (plan := run.ledger.plan_of(image))]
    return [copying[blob.digest] for plan in plans for blob in plan.blobs if blob.digest in copying]


def _publish(run: MirrorRun, images: Sequence[Image], awaited: Sequence[Future[None]]) -> None:
    wait(awaited)
    _quietly(publish_images, run, images)


def _quietly(work: Callable[..., object], *arguments: object) -> None:
    with suppress(MirrorflowError):  # it is in the ledger as well
        work(*arguments)


if __name__ == "__main__":
    main()
