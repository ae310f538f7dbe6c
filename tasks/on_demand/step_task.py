"""A step on demand as a Prefect task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from tasks.steps import NO_REMEMBERING

if TYPE_CHECKING:
    from tasks.on_demand.work import Step


@task(name="on_demand", **NO_REMEMBERING)
def run_step(step: Step) -> None:
    """Its name and its retries are given where it is submitted."""
    step.body()
