"""Step 4 of the flow: the tree of manifests as it will be stored, and the blobs that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.companions.gathering import with_companions
from tasks.errors import NoPlatform
from tasks.fetching import plan_image
from tasks.finding import SCHEMA1
from tasks.images import ImagePlan, Step
from tasks.steps import NO_REMEMBERING, summary
from tasks.upstream.errors import UpstreamSchema1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from tasks.images import Image
    from tasks.run import MirrorRun


def convert(run: MirrorRun, image: Image) -> None:
    """Keep bytes and digests: of indexes (whole, sparse, nested), artifacts, Docker's media types."""
    try:
        plan = ImagePlan(image, (), ()) if image.held else plan_image(run, image)
        run.ledger.plan(image, with_companions(run, image, plan))
    except UpstreamSchema1:
        run.ledger.skip(image, SCHEMA1)
    except NoPlatform as reason:
        run.ledger.skip(image, str(reason))


@task(name="convert_manifest", task_run_name="manifests of {label}", **NO_REMEMBERING)
def convert_manifest(run: MirrorRun, images: Sequence[Image], label: str) -> State[None]:
    """Fetch the manifest tree by digest, validate it, choose platforms."""
    done = run.for_each_image(images, Step.CONVERTED, lambda image: convert(run, image))
    return summary(f"{label}: manifests are here", done=done)
