"""Step 4 of the flow: the tree of manifests as it will be stored, and the blobs that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.converting import convert
from tasks.images import Step
from tasks.steps import NO_REMEMBERING, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from tasks.images import Image
    from tasks.run import MirrorRun


@task(name="convert_manifest", task_run_name="manifests of {label}", **NO_REMEMBERING)
def convert_manifest(run: MirrorRun, images: Sequence[Image], label: str) -> State[None]:
    """Fetch the manifest tree by digest, validate it, choose platforms."""
    done = run.for_each_image(images, Step.CONVERTED, lambda image: convert(run, image))
    return summary(f"{label}: manifests are here", done=done)
