"""The last step of the flow: children first, then the manifest, then the tag."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.companions.publishing import lost_companions, retry_companions
from tasks.images import Step
from tasks.publishing import publish
from tasks.run import only_error
from tasks.steps import NO_REMEMBERING, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from tasks.images import Image
    from tasks.run import MirrorRun


@task(name="publish_image", task_run_name="publish {label}", **NO_REMEMBERING)
def publish_image(run: MirrorRun, images: Sequence[Image], label: str) -> State[None]:
    """Make images visible whose every byte is in the store.

    A companion that its image can do without is tried again with the task.
    """
    for image in images:
        retry_companions(run, image)
    done = run.for_each_image(images, Step.PUBLISHED, lambda image: publish(run, image))
    lost = lost_companions(run, images)
    if lost:
        raise only_error(lost, of=len(images))
    return summary(f"{label}: published", done=done)
