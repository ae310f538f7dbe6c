"""One run from its parameters to its final state: what the flow does, without the decorator."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.states import Cancelled, Completed, Failed

from flows.artifacts import RunArtifacts
from flows.dag import run_dag
from flows.entries import find_entry, open_store
from flows.progress import reporting
from flows.stopping import stop_on_signals
from profiles.loading import load_profile
from registry_server.oci.errors import MirrorflowError
from tasks.policies import refuse_policies
from tasks.polling import record_polls
from tasks.report import Report, build_report
from tasks.run import open_run
from tasks.upstream.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from tasks.run import MirrorRun

log = logging.getLogger("mirrorflow")


def mirror_entry(profile_path: str, registry: str, only: Sequence[str]) -> State[None]:
    """Run the DAG for one registry entry, write its report, and say in one line how it went."""
    try:
        profile = load_profile(Path(profile_path)).profile
        entry = find_entry(profile, registry)
        refuse_policies(entry)
        with (
            stop_on_signals() as stop,
            open_run(profile, entry, open_store(profile), only=only, stop=stop) as run,
        ):
            report = _mirror(run)
    except MirrorflowError as error:
        log.error("%s", error)  # noqa: TRY400 - a message for people; nothing is gained from the traceback
        return Failed(message=str(error))
    return _final_state(report)


def _mirror(run: MirrorRun) -> Report:
    """The DAG between two looks at the clock; whatever happens, the report is written."""
    started, failure = time.time(), ""
    artifacts = RunArtifacts(run.entry.name)
    try:
        with reporting(run, artifacts):
            failure = run_dag(run).problem
    except Stopped:
        pass
    except MirrorflowError as error:
        failure = str(error)
    report = build_report(run, started=started, run_id=artifacts.run_id, failure=failure)
    record_polls(run)
    run.store.reports.save(run.entry.name, report.to_json())
    artifacts.publish(report)
    return report


def _final_state(report: Report) -> State[None]:
    if report.stopped:
        return Cancelled(message=report.message)
    return (Completed if report.complete else Failed)(message=report.message)
