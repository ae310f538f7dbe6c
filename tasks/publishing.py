"""Making an image visible: blobs, children, the manifest, and the tag last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from registry_server.oci.reference import Tag
from registry_server.store.records import Origin, TagRecord
from tasks.companions.publishing import publish_companions, record_verdict
from tasks.cooldown import settle
from tasks.copying import BlobJob
from tasks.placing import have_blob, put_manifests
from tasks.readdressing import made_of, readdress

if TYPE_CHECKING:
    from tasks.images import Image, ImagePlan
    from tasks.run import MirrorRun


def publish(run: MirrorRun, image: Image) -> None:
    """Invariant 1: a visible tag implies that its whole closure is in the pool and durable.

    Companions come before the tag. Raises `BlobNotCopied` with the reason why a blob is missing,
    `CompanionNotCopied`, `StoreError`.
    """
    plan = run.ledger.plan_of(image)
    assert plan is not None, "an image that passed convert_manifest has a plan"
    image = plan.image  # its tag may have moved since it was found
    repository = run.store.repository(image.local)
    if image.held:
        publish_companions(run, image, plan)
        record = repository.tag(image.reference) if isinstance(image.reference, Tag) else None
        readdress(repository, made_of(repository, record) if record else {})
        run.store.sync()
        return
    for blob in plan.blobs:
        have_blob(run, repository, BlobJob(blob, image))
    publish_companions(run, image, plan)
    put_manifests(repository, plan.manifests)
    readdress(repository, plan.renamed)
    record_verdict(run, image, plan.root)
    if isinstance(image.reference, Tag):
        repository.put_tag(image.reference, _record(run, plan))
        settle(run, image.local, image.reference)
    else:
        run.store.sync()


def _record(run: MirrorRun, plan: ImagePlan) -> TagRecord:
    root, admission = plan.root, run.ledger.admission_of(plan.image)
    return TagRecord(
        digest=root.digest,
        media_type=root.media_type,
        size=root.size,
        pushed=time.time(),
        origin=Origin(
            run.entry.name, plan.image.source, plan.image.digest, plan.image.form, on_demand=run.on_demand
        ),
        sparse=plan.sparse,
        gone=plan.gone,
        foreign=plan.image.parts.foreign,
        verdict=admission.verdict,
        judged_by=admission.judged_by,
    )
