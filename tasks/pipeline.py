"""The steps of a run in their order, for images that filter_tags found: without Prefect.

The DAG of a run (flows/dag.py) makes a task run of each. On demand, push notifications, tests and benchmarks
run them one after the other. What a step did is in the run's ledger; the next one takes up what passed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from tasks.companions.publishing import lost_companions, retry_companions
from tasks.convert_manifest.convert import convert
from tasks.copy_blob import claim_jobs, copy_all
from tasks.publish_image import publish
from tasks.run.context import only_error
from tasks.run.values import Step
from tasks.verify_signature import verify_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.run.context import MirrorRun
    from tasks.run.values import Image


def verify_images(run: MirrorRun, images: Sequence[Image]) -> int:
    """For how many it was done. Raises at the end what failed; so do the other steps."""
    return run.for_each_image(images, Step.VERIFIED, lambda image: verify_image(run, image))


def convert_images(run: MirrorRun, images: Sequence[Image]) -> int:
    return run.for_each_image(images, Step.CONVERTED, lambda image: convert(run, image))


def copy_blobs(run: MirrorRun, images: Sequence[Image]) -> None:
    """Every blob that the images need and that nobody in this run has claimed."""
    copy_all(run, claim_jobs(run, images))


def publish_images(run: MirrorRun, images: Sequence[Image]) -> int:
    """A companion that its image can do without is tried again with the step."""
    for image in images:
        retry_companions(run, image)
    done = run.for_each_image(images, Step.PUBLISHED, lambda image: publish(run, image))
    if lost := lost_companions(run, images):
        raise only_error(lost, of=len(images))
    return done


def bring_in(run: MirrorRun, images: Sequence[Image]) -> None:
    """All of them. What fails is in the ledger, and stops no other image."""
    for step in (verify_images, convert_images, copy_blobs, publish_images):
        with suppress(MirrorflowError):
            step(run, images)
