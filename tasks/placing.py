"""Putting blobs and manifests where a repository shows them, in the order that makes that true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from tasks.copying import copy_one
from tasks.errors import BlobNotCopied, is_stop
from tasks.manifests import held_body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.repository import Repository
    from tasks.copying import BlobJob
    from tasks.run import MirrorRun


def have_blob(run: MirrorRun, repository: Repository, job: BlobJob) -> None:
    """A blob is fetched once a run, for one of its images; the others find it in the pool.

    Unless that failed for a repository that is sick, while this image's would give it; or it went into the
    pool of another subpath, which is a storage root of its own. Raises `BlobNotCopied`.
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


def put_manifests(repository: Repository, manifests: Iterable[Descriptor]) -> None:
    """Those whose bodies are in the pool, in this order. Raises `BlobNotCopied`, `StoreError`."""
    for descriptor in manifests:
        body = held_body(repository, descriptor.digest)
        if body is None:
            raise BlobNotCopied(descriptor, None)
        repository.put_manifest(parse_manifest(body, descriptor.media_type), descriptor.digest)
