"""What a step answers for all its members when it ended without an answer of its own. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.run.errors import is_stop
from tasks.run.output import Output
from tasks.run.values import BlobOutcome, Catalog, Findings, Page, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry_server.oci.errors import MirrorflowError
    from tasks.run.values import BlobCopy, SourceRepository


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
