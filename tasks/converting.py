"""The tree of manifests as it will be stored, and the blobs that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.companions.gathering import with_companions
from tasks.errors import LeftOut
from tasks.fetching import plan_image
from tasks.finding import SCHEMA1
from tasks.images import ImagePlan
from tasks.upstream.errors import UpstreamSchema1

if TYPE_CHECKING:
    from tasks.images import Image
    from tasks.run import MirrorRun


def convert(run: MirrorRun, image: Image) -> None:
    """Keep bytes and digests: of indexes (whole, sparse, nested), artifacts, Docker's media types.

    Raises `LeftOut` for what is in a format, or for platforms, that are not mirrored.
    """
    try:
        plan = ImagePlan(image, (), ()) if image.held else plan_image(run, image)
        run.ledger.plan(image, with_companions(run, image, plan))
    except UpstreamSchema1 as error:
        raise LeftOut(SCHEMA1) from error
