"""The DAG of a run, from list_catalog to publish_image.

Every arrow is a future, so that the Prefect UI draws it. A step runs although the one before it failed
(`allow_failure`): its members that got through are in the ledger, and the others are left where they failed.
Big arguments are quoted: Prefect would search them for futures, which costs 175 ms for a list of 3,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect import allow_failure
from prefect.futures import as_completed, wait
from prefect.utilities.annotations import quote

from tasks.copy_blob import claim_jobs
from tasks.prefect_tasks import (
    convert_manifest,
    copy_blob,
    filter_tags,
    list_catalog,
    publish_image,
    retry_options,
    verify_signature,
)
from tasks.run.grouping import group, label, pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prefect.futures import PrefectFuture
    from prefect.tasks import Task

    from registry_server.oci.digest import Digest
    from tasks.copy_blob import BlobJob
    from tasks.list_catalog import Catalog
    from tasks.run.context import MirrorRun
    from tasks.run.values import Image, SourceRepository

    Future = PrefectFuture[Any]


@dataclass(frozen=True, slots=True)
class _Steps:
    """The tasks with the retries of one registry entry."""

    list_catalog: Task[..., Any]
    filter_tags: Task[..., Any]
    verify_signature: Task[..., Any]
    convert_manifest: Task[..., Any]
    copy_blob: Task[..., Any]
    publish_image: Task[..., Any]

    @classmethod
    def of(cls, run: MirrorRun) -> _Steps:
        steps = (list_catalog, filter_tags, verify_signature, convert_manifest, copy_blob, publish_image)
        options = retry_options(run)
        return cls(*(step.with_options(**options) for step in steps))


def run_dag(run: MirrorRun) -> Catalog:
    """Submit the whole DAG and wait for its end; the outcome is in the ledger.

    Raises what list_catalog raised.
    """
    steps = _Steps.of(run)
    listing = steps.list_catalog.submit(quote(run), run.entry.name)
    catalog: Catalog = listing.result()
    searches = _search(steps, run, catalog.repositories, listing)
    wait(list(searches.values()))
    chains = _convert(steps, run, searches)
    wait(_copy(steps, run, chains))
    return catalog


def _search(
    steps: _Steps, run: MirrorRun, repositories: Sequence[SourceRepository], listing: Future
) -> dict[str, Future]:
    """One filter_tags a repository (or a group of them); by the name of the upstream repository."""
    searches: dict[str, Future] = {}
    for members in group(repositories):
        name = members[0].name if len(members) == 1 else f"{len(members)} repositories"
        search = steps.filter_tags.submit(quote(run), quote(members), name, wait_for=[listing])
        searches.update((member.name, search) for member in members)
    return searches


def _convert(steps: _Steps, run: MirrorRun, searches: dict[str, Future]) -> dict[Future, tuple[Image, ...]]:
    """verify_signature and convert_manifest for every changed image; the images behind each last future.

    Only now is it known how many have changed, and so how they are grouped.
    """
    chains: dict[Future, tuple[Image, ...]] = {}
    for images in group(run.ledger.changed()):
        if run.stop.is_set():
            break
        parents = [searches[source] for source in dict.fromkeys(image.source for image in images)]
        verified = steps.verify_signature.submit(
            quote(run), quote(images), label(images), wait_for=_whatever_happened(parents)
        )
        converted = steps.convert_manifest.submit(
            quote(run), quote(images), label(images), wait_for=_whatever_happened([verified])
        )
        chains[converted] = images
    return chains


def _copy(steps: _Steps, run: MirrorRun, chains: dict[Future, tuple[Image, ...]]) -> list[Future]:
    """copy_blob and publish_image as plans become known.

    A blob that several images share is fetched for the first of them, and the others wait for that copy.
    """
    copying: dict[Digest, Future] = {}
    published = []
    for converted in as_completed(list(chains)):
        if run.stop.is_set():
            break
        images = chains[converted]
        for jobs in _jobs(run, images):
            copy = steps.copy_blob.submit(
                quote(run), quote(jobs), _blob_label(jobs), wait_for=_whatever_happened([converted])
            )
            copying.update((job.blob.digest, copy) for job in jobs)
        awaited = [converted, *dict.fromkeys(_copies_of(run, images, copying))]
        published.append(
            steps.publish_image.submit(
                quote(run), quote(images), label(images), wait_for=_whatever_happened(awaited)
            )
        )
    return published


def _jobs(run: MirrorRun, images: tuple[Image, ...]) -> list[tuple[BlobJob, ...]]:
    jobs = {job.blob.digest: job for job in claim_jobs(run, images)}
    packs = pack((job.blob for job in jobs.values()), images=len(images))
    return [tuple(jobs[blob.digest] for blob in blobs) for blobs in packs]


def _blob_label(jobs: Sequence[BlobJob]) -> str:
    size = f"{sum(job.blob.size for job in jobs) / 1e6:.1f} MB"
    what = jobs[0].blob.digest.short if len(jobs) == 1 else f"{len(jobs)} blobs"
    return f"{what}, {size}, for {label(tuple({str(job.image.name): job.image for job in jobs}.values()))}"


def _copies_of(run: MirrorRun, images: Iterable[Image], copying: dict[Digest, Future]) -> Iterable[Future]:
    for image in images:
        plan = run.ledger.plan_of(image)
        for blob in plan.all_blobs if plan else ():
            if blob.digest in copying:
                yield copying[blob.digest]


def _whatever_happened(futures: Iterable[Future]) -> list[Any]:
    return [allow_failure(future) for future in futures]
