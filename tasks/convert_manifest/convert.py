"""The tree of manifests as it will be stored, and the blobs that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.companions.fetching import with_companions
from tasks.convert_manifest.manifest_tree import plan_image
from tasks.filter_tags.changes import ask_again
from tasks.filter_tags.declined import schema1_reason
from tasks.run.errors import LeftOut, TagMoved
from tasks.run.values import ImagePlan
from tasks.upstream.errors import UpstreamSchema1
from tasks.verify_signature import verify_image

if TYPE_CHECKING:
    from tasks.run.context import MirrorRun
    from tasks.run.values import Image


def convert(run: MirrorRun, image: Image) -> None:
    """Keep bytes and digests: of indexes (whole, sparse, nested), artifacts, Docker's media types.

    A tag that moved since it was looked at is looked at once more. Raises `LeftOut` for what is in a format,
    or for platforms, that are not mirrored.
    """
    try:
        _convert(run, image)
    except TagMoved:
        moved = ask_again(run, image)
        if moved is None:
            raise
        verify_image(run, moved)
        run.ledger.moved_on(moved)
        _convert(run, moved)
    except UpstreamSchema1 as error:
        raise LeftOut(schema1_reason(image, error)) from error


def _convert(run: MirrorRun, image: Image) -> None:
    plan = ImagePlan(image, (), ()) if image.held else plan_image(run, image)
    run.ledger.plan(image, with_companions(run, image, plan))
