"""What a step answers for all its members when it ended without an answer of its own. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.run.errors import is_stop
from tasks.run.output import Output
from tasks.run.values import BlobOutcome, Catalog, Findings, Page, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry_server.oci.errors import MirrorflowError


def broken(step: str, values: Sequence[Any], error: MirrorflowError) -> Output[Any]:
    """What a step answers that ended without an answer: it failed for each of its members, or was stopped."""
    stopped = is_stop(error)
    match step:
        case "list_catalog":
            value: Any = Catalog(()) if stopped else Catalog((), str(error), error)
        case "filter_tags":
            value = [] if stopped else [Findings(source, error=error) for source in values[0]]
        case "copy_blob":
            value = [] if stopped else [BlobOutcome(copy, error=error) for copy in values[0]]
        case _:
            value = values[0] if stopped else _failed(values[0], Step(step), error)
    return Output(value, error=error)


def _failed(page: Page, step: Step, error: MirrorflowError) -> Page:
    images = (each.failed(step, error) if each.waits_for(step) else each for each in page.images)
    return Page(tuple(images), page.lists)
