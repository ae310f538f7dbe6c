"""Making an image visible: blobs, children, the manifest, and the tag last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.records import Origin, TagRecord
from tasks.copying import BlobJob, copy_one
from tasks.errors import BlobNotCopied, is_stop
from tasks.manifests import held_body

if TYPE_CHECKING:
    from registry_server.store.repository import Repository
    from tasks.images import Image, ImagePlan
    from tasks.run import MirrorRun


def publish(run: MirrorRun, image: Image) -> None:
    """Invariant 1: a visible tag implies that its whole closure is in the pool and durable.

    Raises `BlobNotCopied` with the reason why a blob is missing, `StoreError`.
    """
    plan = run.ledger.plan_of(image)
    assert plan is not None, "an image that passed convert_manifest has a plan"
    repository = run.store.repository(image.local)
    for blob in plan.blobs:
        _have_blob(run, repository, BlobJob(blob, image))
    for descriptor in plan.manifests:
        body = held_body(repository, descriptor.digest)
        if body is None:
            raise BlobNotCopied(descriptor, None)
        repository.put_manifest(parse_manifest(body, descriptor.media_type), descriptor.digest)
    if isinstance(image.reference, Tag):
        repository.put_tag(image.reference, _record(run, plan))
    else:
        run.store.sync()


def _have_blob(run: MirrorRun, repository: Repository, job: BlobJob) -> None:
    """A blob is fetched once a run, for one of its images; the others find it in the pool.

    Unless that failed for a repository that is sick, while this image's would give it; or it went into the
    pool of another subpath, which is a storage root of its own.
    """
    if repository.adopt_blob(job.blob.digest):
        return
    if cause := run.ledger.blob_error(job.blob.digest, job.image.source):
        raise BlobNotCopied(job.blob, cause)
    try:
        copy_one(run, job)
    except MirrorflowError as error:
        if is_stop(error):
            raise
        run.ledger.blob_failed(job.blob.digest, job.image.source, error)
        raise BlobNotCopied(job.blob, error) from error


def _record(run: MirrorRun, plan: ImagePlan) -> TagRecord:
    root = plan.root
    return TagRecord(
        digest=root.digest,
        media_type=root.media_type,
        size=root.size,
        pushed=time.time(),
        origin=Origin(run.entry.name, plan.image.source, plan.image.digest, plan.image.form),
        sparse=plan.sparse,
    )
