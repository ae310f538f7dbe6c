"""Step 3 of the flow: nothing is admitted without the verdict that its policy asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.images import Step
from tasks.steps import NO_REMEMBERING, summary
from tasks.verifying import verify_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from tasks.images import Image
    from tasks.run import MirrorRun


@task(name="verify_signature", task_run_name="verify {label}", **NO_REMEMBERING)
def verify_signature(run: MirrorRun, images: Sequence[Image], label: str) -> State[None]:
    """Without a policy everything passes, and the report says "no policy", never "verified"."""
    passed = run.for_each_image(images, Step.VERIFIED, lambda image: verify_image(run, image))
    verdicts = sorted({run.ledger.admission_of(image).verdict for image in images})
    return summary(f"{label}: {'; '.join(verdicts)}", done=passed)
