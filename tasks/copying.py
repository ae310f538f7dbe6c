"""Moving one blob: from the pool if it is there, else from the upstream, from where it broke off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.incoming import IncomingBlob
    from tasks.images import Image
    from tasks.ledger import Ledger
    from tasks.run import MirrorRun


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
        lacking = [blob for blob in plan.blobs if not repository.adopt_blob(blob.digest)]
        jobs += [BlobJob(blob, image) for blob in run.ledger.claim(image, lacking)]
    return jobs


def copy_one(run: MirrorRun, job: BlobJob) -> None:
    """Bring one blob into the repository of its image, or leave nothing of it that anybody could see.

    Raises `ContentError`, `UpstreamError`, `StoreError`, `Stopped`; what had arrived stays for the next try.
    """
    repository = run.store.repository(job.image.local)
    if repository.adopt_blob(job.blob.digest):
        return
    if job.blob.data is not None:  # image-spec descriptor.md: embedded content need not be fetched
        repository.put_blob(job.blob, job.blob.data)
        return
    with repository.receive_blob(job.blob, cancelled=run.stop.is_set) as incoming:
        if incoming.complete:
            return
        run.upstream.blob(job.image.source, job.blob, _Counted(incoming, run.ledger, job.blob))
        incoming.commit()
