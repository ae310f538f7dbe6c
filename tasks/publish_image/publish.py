"""Making an image visible: blobs, children, the manifest, and the tag last."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from profiles.image_parts import wanted_children
from registry_server.oci.conversion import may_be_readdressed, readdressed
from registry_server.oci.errors import ContentError, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.errors import StoreDamaged
from registry_server.store.records import Origin, TagRecord
from tasks.context.cooldown import settle
from tasks.copy_blob import ensure_blob, put_manifests, read_held
from tasks.destinations.interface import ContentLost
from tasks.publish_image.companions import publish_companions, record_verdict
from tasks.run.errors import LeftOut
from tasks.run.tag_conflicts import conflicting_source
from tasks.run.values import BlobCopy, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.copy_blob import KnownErrors
    from tasks.run.values import Admission, Image, ImagePlan, Progress


_MOST_LOSSES: Final = 3  # an index, the manifests that it lists, and their blobs


def publish(run: MirrorRun, progress: Progress, known: KnownErrors) -> Progress:
    """Invariant 1: a visible tag implies that its whole closure is in the pool and durable.

    Companions come before the tag. `known` are the errors of copy_blob. Raises `BlobNotCopied` with the
    reason why a blob is missing, `LeftOut` where another source was first or a destination keeps its tag,
    `StoreError`, `DestinationFailed`. Where a companion is missing that the image does not go without, the
    answer has failed.
    """
    for _ in range(_MOST_LOSSES):
        try:
            return _publish(run, progress, known)
        except ContentLost as lost:
            run.live.remark(f"{progress.image.name}: {lost}; it is brought again")
    return _publish(run, progress, known)


def _publish(run: MirrorRun, progress: Progress, known: KnownErrors) -> Progress:
    plan, image = progress.plan, progress.image
    assert plan is not None, "an image that passed convert_manifest has a plan"
    repository = run.store.repository(image.local)
    moved = sum(ensure_blob(run, BlobCopy(blob, image), known) for blob in plan.blobs)
    progress = replace(progress, moved=progress.moved + moved)
    _check_source(run, image, repository)
    _check_newest(run, image, repository)
    progress = publish_companions(run, progress, plan, known)
    if progress.error is not None:
        return progress
    if image.held:
        record = repository.tag(image.reference) if isinstance(image.reference, Tag) else None
        copy_referrers(run, image.local, converted_digests(repository, record) if record else {})
        run.store.sync()
    else:
        _show(run, plan, progress.admission)
    return progress.passed(Step.PUBLISHED)


def _check_source(run: MirrorRun, image: Image, repository: Repository) -> None:
    """Another entry may have brought the tag since it was looked at, and keeps it. Raises `LeftOut`."""
    reason = conflicting_source(run.sync, run.entry, image.source, repository, image.reference)
    if reason and not image.held:
        raise LeftOut(reason)


def _check_newest(run: MirrorRun, image: Image, repository: Repository) -> None:
    """What was looked at hours ago does not replace what was brought meanwhile, on demand or by another run.

    Only where the tag was set here since is the upstream asked again. Raises `LeftOut`, `UpstreamError`.
    """
    if image.held or run.locked or not isinstance(image.reference, Tag):
        return
    record = repository.tag(image.reference)
    if record is None or record.origin is None or record.pushed <= image.looked:
        return
    if record.origin.digest == image.digest:
        return
    if run.upstream.head(image.source, image.upstream_reference).digest != image.digest:
        raise LeftOut(
            "has moved upstream since this run looked at it, and a newer image was brought meanwhile"
        )


def _show(run: MirrorRun, plan: ImagePlan, admission: Admission) -> None:
    """The manifests, and the tag last."""
    local, reference = plan.image.local, plan.image.reference
    tagged = plan.root.digest if isinstance(reference, Tag) else None
    partial = plan.renamed if plan.sparse else ()
    put_manifests(run, local, plan.manifests, tagged, partial, spare=plan.renamed)
    copy_referrers(run, local, plan.renamed)
    record_verdict(run, local, admission, plan.root)
    if isinstance(reference, Tag):
        record, manifest = _record(run, plan, admission), read_held(run, local, plan.root)
        run.targets.put_tag(local, reference, record, manifest, kept=plan.image.kept)
        run.audit.published(plan.image, plan.root.digest)
        settle(run, local, reference)
    else:
        run.store.sync()


def _record(run: MirrorRun, plan: ImagePlan, admission: Admission) -> TagRecord:
    root = plan.root
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


# Companions of companions are copied too; a hostile upstream ends here.
MOST_COPIES: Final = 1000


def copy_referrers(run: MirrorRun, local: RepositoryName, renamed: Mapping[Digest, Descriptor]) -> int:
    """Put copies of what refers to the originals here, for what was made of them; how many are new.

    Signatures and signed statements are left with the original: they say what they say of its digest. Raises
    `StoreError`.
    """
    repository = run.store.repository(local)
    queue, count, looked = deque(renamed.items()), 0, 0
    while queue and looked < MOST_COPIES:
        original, new = queue.popleft()
        for referrer in repository.referrers(original):
            looked += 1
            manifest = _read(repository, referrer.digest)
            if manifest is None or not may_be_readdressed(manifest):
                continue
            copy = readdressed(manifest, new)
            queue.append((referrer.digest, copy.descriptor()))
            digest = copy.descriptor().digest
            count += not repository.has_blob(digest)
            run.targets.put_manifest(local, copy, digest)
    return count


def converted_digests(repository: Repository, record: TagRecord) -> dict[Digest, Descriptor]:
    """What was made of which manifest below a tag: a converted index has the entries of its original."""
    if record.origin is None or record.converted_from is None:
        return {}
    form, found = record.origin.form, {record.converted_from: record.descriptor}
    queue = [(record.converted_from, record.descriptor)]
    while queue:
        before, after = queue.pop()
        old, new = _read(repository, before), _read(repository, after.digest)
        if old is None or new is None:
            continue
        kept = wanted_children(old, form) if form.rewrite else old.manifests
        pairs = zip((child.digest for child in kept), new.manifests, strict=False)
        changed = {old: new for old, new in pairs if old != new.digest and old not in found}
        found |= changed
        queue += changed.items()
    return found


def _read(repository: Repository, digest: Digest) -> Manifest | None:
    """None for what is not here (a platform that was left out), or cannot be read."""
    try:
        descriptor, body = repository.read_manifest(digest)
        return parse_manifest(body, descriptor.media_type)
    except (NotFound, StoreDamaged, ContentError):
        return None
