"""The steps of a run in their order: whole, without Prefect, values in and values out.

    filter_tags -> verify_signature -> convert_manifest -> copy_blob -> publish_image

Each takes what the step before it answered, and answers the same with more in it. An image that failed, or is
left out, goes along and says why. Every step is idempotent: what it is given again is done where it was not.
`Batch` does them one after the other for a few images; tasks/engines/dag.py does them side by side for a
whole run.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from profiles.matching import has_min_age, source_name
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import Tag
from tasks.convert_manifest import convert
from tasks.copy_blob import copy_all
from tasks.copy_blob import failure_of as copy_failure
from tasks.filter_tags.changes import ask_again
from tasks.filter_tags.search import failure_of as search_failure
from tasks.filter_tags.search import filter_repositories
from tasks.list_catalog import choose_repositories
from tasks.manifests.reading import fetch_by_tag
from tasks.publish_image.companions import lost_companions, retry_companions
from tasks.publish_image.publish import publish
from tasks.run.errors import LeftOut, NotAdmitted, NotSigned, TagMoved, Unexpected, is_stop, only_error
from tasks.run.record import RunRecord
from tasks.run.values import Progress, Step
from tasks.verify_signature import verify_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import BlobCopy, BlobOutcome, Findings, Image, SourceRepository

    Work = Callable[[Progress], Progress]

log = logging.getLogger("mirrorflow.run")


def verify_images(run: MirrorRun, images: Sequence[Progress]) -> list[Progress]:
    """The verdict on each, before a single layer moves. Companions come after what they accompany: they are
    judged by the same signatures, which have been read then.
    """

    def verify(progress: Progress) -> Progress:
        return replace(progress, admission=verify_image(run, progress.image))

    first = [each for each in images if each.image.subject is None]
    done = advance(run, first, Step.VERIFIED, verify)
    done += advance(run, [each for each in images if each.image.subject is not None], Step.VERIFIED, verify)
    found = {each.image.name: each for each in done}
    return [found[each.image.name] for each in images]


def convert_images(run: MirrorRun, images: Sequence[Progress]) -> list[Progress]:
    """Their manifests, in the pool; and the blobs that the store lacks (`Progress.lacking`)."""
    return advance(run, images, Step.CONVERTED, lambda each: _convert(run, each))


def _convert(run: MirrorRun, progress: Progress) -> Progress:
    try:
        return convert(run, progress)
    except TagMoved:
        return _convert_moved(run, progress)


def _convert_moved(run: MirrorRun, progress: Progress) -> Progress:
    """A tag that moved since it was looked at is looked at once more.

    Where it moves again, and its name alone decides that it is taken, it is what one GET of the tag answers.
    """
    image = ask_again(run, progress.image)
    if image is None:
        return convert(run, progress)
    progress = replace(progress, image=image, admission=verify_image(run, image))
    try:
        return convert(run, progress)
    except TagMoved:
        if not _is_chosen_by_name(run, image):
            raise
        return convert(run, replace(progress, image=fetch_by_tag(run, image)))


def _is_chosen_by_name(run: MirrorRun, image: Image) -> bool:
    """Whether no policy, no time of waiting and no `select` asks what the image holds."""
    tag = image.upstream_reference if isinstance(image.upstream_reference, Tag) else None
    if tag is None or is_companion_tag(tag) or has_min_age(run.entry):
        return False
    if run.verification.policy_for(source_name(run.entry, image.source), tag) is not None:
        return False
    sources = choose_repositories(run.entry, [image.source])
    return not any(target.rule.select for source in sources for target in source.targets)


def publish_images(
    run: MirrorRun, images: Sequence[Progress], copies: Iterable[BlobOutcome] = ()
) -> list[Progress]:
    """Visible. `copies` are what copy_blob answered for these images, and for others that share blobs.

    A companion that its image can do without is tried again with the step.
    """
    known = {each.copy.key: each.error for each in copies if each.error is not None}
    retried = _attempted(run, images, Step.PUBLISHED, lambda each: retry_companions(run, each))
    return advance(run, retried, Step.PUBLISHED, lambda each: publish(run, each, known))


def advance(run: MirrorRun, images: Sequence[Progress], step: Step, work: Work) -> list[Progress]:
    """Take every image that waits for `step` through it, in parallel. One failure stops no other image."""

    def go(progress: Progress) -> Progress:
        if not progress.waits_for(step):
            return progress
        began = time.monotonic()
        found = _try(run, progress, step, lambda each: _end(work(each), step))
        return replace(found, seconds=progress.seconds + time.monotonic() - began)

    return run.in_parallel(go, images)


def _end(progress: Progress, step: Step) -> Progress:
    return progress.passed(step) if progress.error is None else progress


def _attempted(run: MirrorRun, images: Sequence[Progress], step: Step, work: Work) -> list[Progress]:
    """`work` for those that have passed `step` already."""
    return [_try(run, each, step, work) if each.step is step else each for each in images]


def _try(run: MirrorRun, progress: Progress, step: Step, work: Work) -> Progress:
    """What fails is in the answer. An image whose step was stopped stays where it was."""
    progress = replace(progress, failed_step=None, error=None)
    try:
        run.check_stopped()
        return work(progress)
    except (NotAdmitted, NotSigned) as error:
        progress = replace(progress, admission=error.admission or progress.admission)
        return _failed(progress, step, error)
    except MirrorflowError as error:
        return _failed(progress, step, error)
    except Exception as error:
        log.exception("unexpected error for %s", progress.image.name)
        return progress.failed(step, Unexpected(error))


def _failed(progress: Progress, step: Step, error: MirrorflowError) -> Progress:
    if is_stop(error):
        return progress
    if isinstance(error, LeftOut):
        return replace(progress, skipped=str(error))
    return progress.failed(step, error)


def failure_of(images: Sequence[Progress], step: Step) -> MirrorflowError | None:
    """What failed of a group at `step`, in one error: companions of published images too."""
    failures = {
        str(each.image.name): each.error
        for each in images
        if each.error is not None and each.failed_step is step
    }
    failures |= lost_companions(images) if step is Step.PUBLISHED else {}
    return only_error(failures, of=len(images)) if failures else None


@dataclass(slots=True)
class Batch:
    """A few images, and how far each got. The steps one after the other, in this process.

    Each step raises what failed of it when all have been tried, and may be called again: then it does what
    failed.
    """

    run: MirrorRun
    record: RunRecord = field(default_factory=RunRecord)
    searched: list[Findings] = field(default_factory=list)
    copies: list[BlobOutcome] = field(default_factory=list)

    @classmethod
    def of(cls, run: MirrorRun, images: Iterable[Image]) -> Batch:
        """Images that were found already."""
        batch = cls(run)
        batch.record.advanced(Progress(image) for image in images)
        return batch

    @property
    def images(self) -> list[Progress]:
        """By source, so that groups keep together."""
        return sorted(
            self.record.progress.values(), key=lambda each: (each.image.source, str(each.image.name))
        )

    @property
    def lacking(self) -> list[BlobCopy]:
        """Every blob that the images need and the store lacks, each digest once."""
        found = {copy.blob.digest: copy for each in reversed(self.images) for copy in each.lacking}
        return list(found.values())

    def filter_tags(self, sources: Sequence[SourceRepository]) -> None:
        self.searched = filter_repositories(self.run, sources, self.searched)
        self.record.found(self.searched)
        _raise(search_failure(self.searched))

    def verify_signature(self) -> None:
        self._advanced(verify_images(self.run, self.images), Step.VERIFIED)

    def convert_manifest(self) -> None:
        self._advanced(convert_images(self.run, self.images), Step.CONVERTED)

    def copy_blob(self) -> None:
        copies = self.lacking
        self.record.claim(copies)
        self.copies = copy_all(self.run, copies, self.copies)
        self.record.copied(self.copies)
        _raise(copy_failure(self.copies))

    def publish_image(self) -> None:
        self._advanced(publish_images(self.run, self.images, self.copies), Step.PUBLISHED)

    def bring_in(self) -> None:
        """All steps but the first. What fails is in the record, and stops no other image."""
        for step in (self.verify_signature, self.convert_manifest, self.copy_blob, self.publish_image):
            try:
                step()
            except MirrorflowError as error:
                log.debug("%s: %s", self.run.entry.name, error)

    def _advanced(self, images: Sequence[Progress], step: Step) -> None:
        self.record.advanced(images)
        _raise(failure_of(images, step))


def _raise(error: MirrorflowError | None) -> None:
    if error is not None:
        raise error
