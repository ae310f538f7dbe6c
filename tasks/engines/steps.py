"""The steps as an engine calls them: the run's context and plain values in, an `Output` out. Never raises.

`before` is the output of the last try of the same step: what passed then is not done again.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from registry_server.counted import counted
from registry_server.oci.errors import MirrorflowError
from tasks import pipeline
from tasks.copy_blob import copy_all
from tasks.copy_blob import failure_of as copy_failure
from tasks.filter_tags.search import failure_of as search_failure
from tasks.filter_tags.search import filter_repositories
from tasks.list_catalog import wanted_repositories
from tasks.run.errors import Unexpected, is_retryable, is_stop
from tasks.run.only import own_items
from tasks.run.values import BlobOutcome, Catalog, Findings, Output, Page, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import BlobCopy, Progress, SourceRepository

    Body = Callable[..., Output[Any]]

log = logging.getLogger("mirrorflow.run")


def list_catalog(run: MirrorRun, before: Output[Catalog] | None = None) -> Output[Catalog]:
    """Which repositories of the upstream do the content rules want?"""
    del before  # it is asked as a whole
    try:
        catalog = wanted_repositories(run)
    except MirrorflowError as error:
        return broken("list_catalog", (), error)
    passing = catalog.error if catalog.error is not None and is_retryable(catalog.error) else None
    number = counted(len(catalog.repositories), "repository", "repositories")
    return Output(catalog, error=passing, summary=f"{number} wanted")


def filter_tags(
    run: MirrorRun, sources: Sequence[SourceRepository], before: Output[list[Findings]] | None = None
) -> Output[list[Findings]]:
    """Apply the rules to the tags, and compare one HEAD of each survivor with the store."""
    found = filter_repositories(run, sources, before.value if before else ())
    changed = sum(len(each.changed) for each in found)
    return Output(
        found,
        error=search_failure(found, own_items(run.only, run.entry, run.shard)),
        summary=f"{changed} changed",
    )


def verify_signature(run: MirrorRun, page: Page, before: Output[Page] | None = None) -> Output[Page]:
    """Without a policy everything passes, and the report says "no policy", never "verified"."""
    images = pipeline.verify_images(run, _images(run, page, before))
    verdicts = sorted({each.admission.verdict for each in images if each.admission.verdict})
    return _page(page, images, Step.VERIFIED, "; ".join(verdicts))


def convert_manifest(run: MirrorRun, page: Page, before: Output[Page] | None = None) -> Output[Page]:
    """Fetch the manifest tree by digest, validate it, choose platforms."""
    images = pipeline.convert_images(run, _images(run, page, before))
    return _page(page, images, Step.CONVERTED, "manifests are stored")


def copy_blob(
    run: MirrorRun, copies: Sequence[BlobCopy], before: Output[list[BlobOutcome]] | None = None
) -> Output[list[BlobOutcome]]:
    """Fetch blobs into the store, resuming what an earlier run left; a retry repeats only what failed."""
    found = copy_all(run, copies, before.value if before else ())
    size = sum(each.copy.blob.size for each in found if each.error is None)
    return Output(found, error=copy_failure(found), summary=f"{size:,} bytes are stored")


def publish_image(
    run: MirrorRun, page: Page, copies: Sequence[list[BlobOutcome]], before: Output[Page] | None = None
) -> Output[Page]:
    """Make images visible whose every byte is in the store: children first, the tag last."""
    outcomes = [each for found in copies for each in found]
    images = pipeline.publish_images(run, _images(run, page, before), outcomes)
    return _page(page, images, Step.PUBLISHED, "published")


def _images(run: MirrorRun, page: Page, before: Output[Page] | None) -> Sequence[Progress]:
    for source, listed in page.lists.items():
        run.lists.learn(source, listed)
    return before.value.images if before else page.images


def _page(page: Page, images: Sequence[Progress], step: Step, summary: str) -> Output[Page]:
    return Output(Page(tuple(images), page.lists), error=pipeline.failure_of(images, step), summary=summary)


STEPS: Final[dict[str, Body]] = {
    "list_catalog": list_catalog,
    "filter_tags": filter_tags,
    "verify_signature": verify_signature,
    "convert_manifest": convert_manifest,
    "copy_blob": copy_blob,
    "publish_image": publish_image,
}


def run_step(run: MirrorRun, step: str, values: Sequence[Any], before: Output[Any] | None) -> Output[Any]:
    """One step by its name, with what is to be told beside its value, of earlier tries too. A bug is an
    error of all members.
    """
    try:
        output = STEPS[step](run, *values, before)
    except Exception as error:
        if not (isinstance(error, MirrorflowError) and is_stop(error)):
            log.exception("unexpected error in %s", step)
            error = Unexpected(error)
        output = broken(step, values, error, before)
    output.remarks = (*(before.remarks if before else ()), *run.live.take_remarks())
    output.requests = Counter(before.requests if before else {}) + Counter(run.take_requests())
    output.budget = str(run.upstream.budget() or "")
    return output


def broken(
    step: str, values: Sequence[Any], error: MirrorflowError, before: Output[Any] | None = None
) -> Output[Any]:
    """What a step answers that ended without an answer: it failed for each of its members, or was stopped.

    What its last try, `before`, brought about stays as it is.
    """
    stopped, known = is_stop(error), before.value if before else None
    match step:
        case "list_catalog":
            value: Any = Catalog(()) if stopped else Catalog((), str(error), error)
        case "filter_tags":
            value = list(known or ()) if stopped else _not_searched(values[0], known or (), error)
        case "copy_blob":
            value = list(known or ()) if stopped else _not_copied(values[0], known or (), error)
        case _:
            page = known or values[0]
            value = page if stopped else _failed(page, Step(step), error)
    output = Output(value, error=error)
    if before is not None:
        output.remarks, output.requests = before.remarks, before.requests
    return output


def _not_searched(
    sources: Sequence[SourceRepository], known: Sequence[Findings], error: MirrorflowError
) -> list[Findings]:
    found = {each.source.name: each for each in known if each.error is None}
    return [found.get(source.name) or Findings(source, error=error) for source in sources]


def _not_copied(
    copies: Sequence[BlobCopy], known: Sequence[BlobOutcome], error: MirrorflowError
) -> list[BlobOutcome]:
    found = {each.copy.key: each for each in known if each.error is None}
    return [found.get(copy.key) or BlobOutcome(copy, error=error) for copy in copies]


def _failed(page: Page, step: Step, error: MirrorflowError) -> Page:
    images = (each.failed(step, error) if each.waits_for(step) else each for each in page.images)
    return Page(tuple(images), page.lists)
