"""Making companions visible, before the tag of their image is; and the verdict on it, if that is wanted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.store.records import Origin, TagRecord
from tasks.companions.fetching import is_required, with_companions
from tasks.companions.model import CompanionStatus, Followed
from tasks.companions.verdict_record import CONFIG, EMPTY, layer_of, manifest_of
from tasks.copy_blob import BlobJob, ensure_blob, put_manifests
from tasks.run.errors import CompanionNotCopied, is_retryable, is_stop

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry_server.oci.descriptor import Descriptor
    from tasks.companions.model import CompanionPlan
    from tasks.run.context import MirrorRun
    from tasks.run.values import Image, ImagePlan


def publish_companions(run: MirrorRun, image: Image, plan: ImagePlan) -> None:
    """Each by itself: one that fails is written down.

    Raises `CompanionNotCopied` at the first where the rule does not take the image without, `Stopped`.
    """
    company = plan.company
    if company is None:
        return
    run.ledger.followed(image, company.troubles)
    failed = bool(company.failures)
    for companion in company.plans:
        try:
            _publish(run, image, companion)
        except MirrorflowError as error:
            if is_stop(error):
                raise
            failed = True
            _write_down(run, image, companion, error)
        else:
            _write_down(run, image, companion)
    if not failed:
        run.ledger.note(image.local, company.versions)


def _publish(run: MirrorRun, image: Image, companion: CompanionPlan) -> None:
    repository = run.store.repository(image.local)
    for blob in companion.blobs:
        ensure_blob(run, repository, BlobJob(blob, image))
    put_manifests(repository, companion.manifests)
    if companion.tag is not None:
        found = companion.descriptor
        origin = Origin(run.entry.name, image.source, found.digest)
        record = TagRecord(found.digest, found.media_type, found.size, time.time(), origin)
        repository.put_tag(companion.tag, record)


def _write_down(
    run: MirrorRun, image: Image, companion: CompanionPlan, error: MirrorflowError | None = None
) -> None:
    kind = companion.descriptor.artifact_type or ""
    if error is None:
        run.ledger.followed(image, [Followed(companion.name, kind, CompanionStatus.COPIED)])
        return
    run.ledger.followed(image, [Followed(companion.name, kind, CompanionStatus.FAILED, str(error), error)])
    if is_required(run, image):
        raise CompanionNotCopied(companion.name, error) from error


def lost_companions(run: MirrorRun, images: Iterable[Image]) -> dict[str, MirrorflowError]:
    """What failed of the companions of images that are published, by image."""
    return {
        str(image.name): CompanionNotCopied(each.companion, each.error)
        for image in images
        for each in run.ledger.companions_of(image)
        if each.outcome is CompanionStatus.FAILED and each.error is not None
    }


def retry_companions(run: MirrorRun, image: Image) -> None:
    """Once more for an image that is published without all of its companions. Raises `Stopped`."""
    plan = run.ledger.plan_of(image)
    lost = [each for each in run.ledger.companions_of(image) if each.outcome is CompanionStatus.FAILED]
    if plan is None or not any(each.error is not None and is_retryable(each.error) for each in lost):
        return
    run.ledger.forget_companions(image, [each.companion for each in lost])
    plan = with_companions(run, image, plan)
    run.ledger.plan(image, plan)
    publish_companions(run, image, plan)
    run.store.sync()


def record_verdict(run: MirrorRun, image: Image, root: Descriptor) -> None:
    """The verdict as a referrer of the stored image: the same bytes for the same verdict."""
    content = run.ledger.admission_of(image).record
    if content is None:
        return
    repository = run.store.repository(image.local)
    repository.put_blob(CONFIG, EMPTY)
    repository.put_blob(layer_of(content), content)
    repository.put_manifest(parse_manifest(manifest_of(content, root)))
