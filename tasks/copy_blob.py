"""Moving blobs: from the pool if they are there, else from the upstream, from where they broke off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_server.oci.errors import DigestMismatch, MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.store.errors import StoreError
from tasks.convert_manifest.manifests import blamed, held_body
from tasks.run.context import only_error
from tasks.run.errors import BlobNotCopied, is_stop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.incoming_blob import IncomingBlob
    from registry_server.store.repository import Repository
    from tasks.run.context import MirrorRun
    from tasks.run.ledger import Ledger
    from tasks.run.values import Image


@dataclass(frozen=True, slots=True)
class BlobJob:
    """A blob and the image on whose behalf it is fetched."""

    blob: Descriptor
    image: Image


@dataclass(slots=True)
class _Counted:
    """Tells the ledger of every byte that arrives, so that progress moves while a big blob does."""

    incoming: IncomingBlob
    ledger: Ledger
    blob: Descriptor

    @property
    def offset(self) -> int:
        return self.incoming.offset

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.incoming.write(data)
        self.ledger.moved(self.blob.digest, len(data))

    def restart(self) -> None:
        self.incoming.restart()


def claim_jobs(run: MirrorRun, images: Iterable[Image]) -> list[BlobJob]:
    """What has to be fetched for these images: not in the store, and claimed by no other image of the run."""
    jobs = []
    for image in images:
        plan = run.ledger.plan_of(image)
        if plan is None:
            continue
        repository = run.store.repository(image.local)
        lacking = [blob for blob in plan.all_blobs if not _is_held(repository, blob)]
        jobs += [BlobJob(blob, image) for blob in run.ledger.claim(image, lacking)]
    return jobs


def _is_held(repository: Repository, blob: Descriptor) -> bool:
    """What the store has against it is told where the blob is copied, and not to the whole run."""
    try:
        return repository.adopt_blob(blob.digest)
    except StoreError:
        return False


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


def copy_one(run: MirrorRun, job: BlobJob) -> None:
    """Bring one blob into the repository of its image, or leave nothing of it that anybody could see.

    Raises `WrongContent`, `UpstreamError`, `StoreError`, `Stopped`; what had arrived stays for the next try.
    """
    repository = run.store.repository(job.image.local)
    if repository.adopt_blob(job.blob.digest):
        return
    if job.blob.data is not None:  # image-spec descriptor.md: embedded content need not be fetched
        repository.put_blob(job.blob, job.blob.data)
        return
    with blamed(run, job.image, job.blob.digest):
        if not _receive(run, repository, job):
            _receive(run, repository, job)


def _receive(run: MirrorRun, repository: Repository, job: BlobJob) -> bool:
    """False: worth another go, because what an earlier run left may be what was wrong. It is gone by now."""
    with repository.receive_blob(job.blob, cancelled=run.stop.is_set) as incoming:
        if incoming.complete:
            return True
        resumed = incoming.offset > 0
        counted = _Counted(incoming, run.ledger, job.blob)
        run.upstream.blob(job.image.source, job.blob, counted, foreign=job.image.parts.foreign)
        try:
            incoming.commit()
        except DigestMismatch:
            if not resumed:
                raise
            return False
    return True


def ensure_blob(run: MirrorRun, repository: Repository, job: BlobJob) -> None:
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
