"""One run without Prefect: the same steps and the same report, on threads of this process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from uuid import uuid4

from flows.mirroring import mirror_entry
from flows.reporting.console import complain
from registry_server.oci.errors import MirrorflowError
from tasks.engines.direct_engine import direct_engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from flows.lifecycle.stop_signals import StopSignal
    from profiles.lock_file import LockedImage
    from profiles.values.shard import Shard
    from tasks.results.report import Report


class _Terminal:
    """The command prints the report itself, and draws bars from the progress of the run."""

    def __init__(self) -> None:
        self.run_id = str(uuid4())

    def progress(self, percent: float, words: str) -> None:
        """Bars have the numbers already (flows/reporting/progress.py)."""

    def publish(self, report: Report) -> None:
        """It is in the store."""

    def not_saved(self, reason: str) -> None:
        complain(reason)

    def abandoned(self, report: Report) -> bool:
        complain(f"{report.registry}: {report.message}")
        return False


def run_direct(
    profile: Path,
    registry: str,
    only: Sequence[str] = (),
    *,
    shard: Shard | None = None,
    stop: StopSignal | None = None,
    locked: Mapping[str, LockedImage] | None = None,
) -> tuple[str, str]:
    """Mirror one registry entry, or a shard of it.

    The type and the message of the state that a Prefect run would end in.
    `stop` and `locked` as in `mirror_entry`.
    """
    if stop is not None and stop.event.is_set():
        return "CANCELLED", "stopped"
    logging.getLogger("mirrorflow").addHandler(logging.NullHandler())  # the report says it all
    try:
        display = _Terminal()
        report = mirror_entry(
            profile,
            registry,
            only,
            engine=direct_engine,
            display=display,
            stop=stop,
            shard=shard,
            locked=locked,
        )
    except MirrorflowError as error:
        return "FAILED", str(error)
    if report.stopped:
        return "CANCELLED", report.message
    return "COMPLETED" if report.complete else "FAILED", report.message
