"""Making an image visible: blobs, children, the manifest, and the tag last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.records import Origin, TagRecord
from tasks.errors import BlobNotCopied

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
    _adopt_blobs(run, repository, plan)
    for descriptor in plan.manifests:
        body = repository.find_blob(descriptor.digest).path.read_bytes()
        repository.put_manifest(parse_manifest(body, descriptor.media_type), descriptor.digest)
    if isinstance(image.reference, Tag):
        repository.put_tag(image.reference, _record(run, plan))
    else:
        run.store.sync()


def _adopt_blobs(run: MirrorRun, repository: Repository, plan: ImagePlan) -> None:
    for blob in plan.blobs:
        if not repository.adopt_blob(blob.digest):
            raise BlobNotCopied(blob, run.ledger.blob_error(blob.digest))


def _record(run: MirrorRun, plan: ImagePlan) -> TagRecord:
    root = plan.root
    return TagRecord(
        digest=root.digest,
        media_type=root.media_type,
        size=root.size,
        pushed=time.time(),
        origin=Origin(registry=run.entry.name, repository=plan.image.source, digest=plan.image.digest),
        sparse=plan.sparse,
    )
