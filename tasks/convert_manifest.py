"""The tree of manifests as it will be stored, and the blobs that it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.companions.fetching import with_companions
from tasks.copy_blob import lacking_blobs
from tasks.manifests.manifest_tree import plan_image
from tasks.run.errors import LeftOut, schema1_reason
from tasks.run.values import ImagePlan
from tasks.upstream.errors import UpstreamSchema1

if TYPE_CHECKING:
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Progress


def convert(run: MirrorRun, progress: Progress) -> Progress:
    """Keep bytes and digests: of indexes (whole, sparse, nested), artifacts, Docker's media types.

    Raises `LeftOut` for what is in a format, or for platforms, that are not mirrored; `TagMoved`.
    """
    image = progress.image
    try:
        plan = ImagePlan(image, (), ()) if image.held else plan_image(run, image)
        plan = with_companions(run, image, plan)
    except UpstreamSchema1 as error:
        raise LeftOut(schema1_reason(image, error)) from error
    return replace(progress, plan=plan, lacking=lacking_blobs(run, plan))
