"""A flow with the parameters of `mirror_registry` that does what `registry` says."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

ENTRYPOINT = "tests.flows.tiny.tiny"


@flow(name="tiny", flow_run_name="tiny {registry}")
def tiny(profile: str, registry: str, only: list[str] | None = None) -> State[Any]:
    """`sleep SECONDS`, `once FILE` (fails unless FILE exists, which it then makes), anything else: done.

    Leaves its process id and `only` in `PROFILE.runs`.
    """
    with Path(f"{profile}.runs").open("a") as record:
        record.write(f"{os.getpid()} {','.join(only or [])}\n")
    what, _, argument = registry.partition(" ")
    if what == "sleep":
        time.sleep(float(argument))
    if what == "once" and not Path(argument).exists():
        Path(argument).touch()
        return Failed(message="0 of 1 images, 1 failed")
    return Completed(message="1 of 1 images")
