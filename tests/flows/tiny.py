"""A flow with the parameters of `mirror_registry` that does what the name of the entry says."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

ENTRYPOINT = "tests.flows.tiny.tiny"


@flow(name="tiny", flow_run_name="tiny {registry}")
def tiny(profile: str, registry: str, only: list[str] | None = None, shard: str | None = None) -> State[Any]:
    """`slow-…`: works for a minute, `stubborn-…`: also when it is told to stop, `once-…`: fails the first
    time, anything else: done. Leaves its process id and `only` in a file beside the profile."""
    record = Path(f"{profile}.{registry}")
    before = record.exists()
    with record.open("a") as lines:
        lines.write(f"{os.getpid()} {','.join(only or [])}\n")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if registry.startswith("slow"):
        stop.wait(60)
    if registry.startswith("stubborn"):
        time.sleep(60)
    if registry.startswith("once") and not before:
        return Failed(message="0 of 1 images, 1 failed")
    return Completed(message="stopped" if stop.is_set() else "1 of 1 images")
