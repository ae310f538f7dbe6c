"""Making companions visible, before the tag of their image is; and the verdict on it, if that is wanted."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.store.records import Origin, TagRecord
from tasks.companions.fetching import is_required, with_companions
from tasks.copy_blob import ensure_blob, put_manifests, read_held
from tasks.manifests.verdict_record import CONFIG, EMPTY, layer_of, manifest_of
from tasks.run.companion_values import CompanionStatus, Followed
from tasks.run.errors import CompanionNotCopied, is_retryable, is_stop
from tasks.run.values import BlobCopy, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.reference import RepositoryName
    from tasks.context.mirror_run import MirrorRun
    from tasks.copy_blob import KnownErrors
    from tasks.run.companion_values import CompanionPlan
    from tasks.run.values import Admission, Image, ImagePlan, Progress
    from tasks.upstream.blob import BlobSink


def publish_companions(run: MirrorRun, progress: Progress, plan: ImagePlan, known: KnownErrors) -> Progress:
    """Each by itself: what came of it is in the answer, with the reason of one that failed.

    The answer has failed at the first where the rule does not take the image without. Raises `Stopped`.
    """
    company = plan.company
    if company is None:
        return progress
    progress, failed = progress.followed(company.troubles), bool(company.failures)
    for companion in company.plans:
        try:
            moved = _publish(run, progress.image, companion, known)
            progress = replace(progress, moved=progress.moved + moved)
            error = None
        except MirrorflowError as failure:
            if is_stop(failure):
                raise
            failed, error = True, failure
        progress = progress.followed([_followed(companion, error)])
        if error is not None and is_required(run, progress.image):
            return progress.failed(Step.PUBLISHED, CompanionNotCopied(companion.name, error))
    return progress if failed else replace(progress, noted={**progress.noted, **company.versions})


def _publish(run: MirrorRun, image: Image, companion: CompanionPlan, known: KnownErrors) -> int:
    """How many bytes came for it."""
    moved = sum(ensure_blob(run, BlobCopy(blob, image), known) for blob in companion.blobs)
    found = companion.descriptor
    put_manifests(run, image.local, companion.manifests, found.digest if companion.tag is not None else None)
    if companion.tag is not None:
        origin = Origin(run.entry.name, image.source, found.digest)
        record = TagRecord(found.digest, found.media_type, found.size, time.time(), origin)
        manifest = read_held(run, image.local, found)
        run.targets.put_tag(image.local, companion.tag, record, manifest, kept=image.kept)
    return moved


def _followed(companion: CompanionPlan, error: MirrorflowError | None) -> Followed:
    kind = companion.descriptor.artifact_type or ""
    if error is None:
        return Followed(companion.name, kind, CompanionStatus.COPIED)
    return Followed(companion.name, kind, CompanionStatus.FAILED, str(error), error)


def lost_companions(progress: Iterable[Progress]) -> dict[str, MirrorflowError]:
    """What failed of the companions of images that are published, by image."""
    return {
        str(each.image.name): CompanionNotCopied(companion.companion, companion.error)
        for each in progress
        if each.step is Step.PUBLISHED
        for companion in _lost(each)
        if companion.error is not None
    }


def retry_companions(run: MirrorRun, progress: Progress) -> Progress:
    """Once more for an image that is published without all of its companions.

    Raises `Stopped`, `CompanionNotCopied`.
    """
    lost = _lost(progress)
    if progress.plan is None or not any(each.error and is_retryable(each.error) for each in lost):
        return progress
    names = {each.companion for each in lost}
    kept = {name: each for name, each in progress.companions.items() if name not in names}
    plan = with_companions(run, progress.image, progress.plan)
    progress = publish_companions(run, replace(progress, plan=plan, companions=kept), plan, {})
    run.store.sync()
    return progress


def _lost(progress: Progress) -> list[Followed]:
    return [each for each in progress.companions.values() if each.outcome is CompanionStatus.FAILED]


def record_verdict(run: MirrorRun, local: RepositoryName, admission: Admission, root: Descriptor) -> None:
    """The verdict as a referrer of the stored image: the same bytes for the same verdict."""
    if admission.record is None:
        return
    for blob, content in ((CONFIG, EMPTY), (layer_of(admission.record), admission.record)):
        run.targets.bring(local, replace(blob, data=content), _no_source)
    manifest = parse_manifest(manifest_of(admission.record, root))
    run.targets.put_manifest(local, manifest, manifest.descriptor().digest)


def _no_source(_sink: BlobSink) -> None:
    raise AssertionError("the content is with the descriptor")
