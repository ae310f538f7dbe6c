"""One run from its parameters to its final state: what the flow does, without the decorator."""

from __future__ import annotations

import logging
import os
import time
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Completed, Failed

from flows.dag import run_dag
from flows.entries import find_entry, open_store
from flows.lifecycle.accepted_profile import load_accepted
from flows.lifecycle.parent_death import die_with_parent
from flows.lifecycle.stop_signals import StopSignal, stop_on_signals
from flows.reporting.artifacts import RunArtifacts
from flows.reporting.console import complain
from flows.reporting.progress import report_progress
from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import StoreError
from tasks.run.context import open_run
from tasks.run.poll_records import record_polls
from tasks.run.report import Report, build_report
from tasks.stored.policy_sweep import sweep
from tasks.stored.pruning import prune
from tasks.upstream.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from profiles.model.profile import Profile
    from tasks.run.context import MirrorRun

log = logging.getLogger("mirrorflow")


def mirror_entry(profile_path: str, registry: str, only: Sequence[str]) -> State[None]:
    """Run the DAG for one registry entry, write its report, and say in one line how it went."""
    if "PREFECT__FLOW_RUN_ID" in os.environ:  # started by a runner: when that is killed, so are we
        die_with_parent(os.getppid())
    try:
        profile = load_accepted(Path(profile_path)).profile
        entry = find_entry(profile, registry)
        store = open_store(profile)
        with (
            stop_on_signals() as sign,
            store.lease(),  # however long a blob takes, no garbage collector has it before its tag is there
            open_run(profile, entry, store, only=only, stop=sign.event) as run,
        ):
            return _mirror(run, sign, profile)
    except MirrorflowError as error:
        log.error("%s", error)  # noqa: TRY400 - a message for people; nothing is gained from the traceback
        return Failed(message=str(error))


def _mirror(run: MirrorRun, sign: StopSignal, profile: Profile) -> State[None]:
    """The DAG between two looks at the clock; whatever happens, the report is written."""
    started, failure = time.time(), ""
    artifacts = RunArtifacts(run.entry.name)
    # Kept for the case that steps do not end when asked: then another thread tells Prefect, and ends us.
    context = copy_context()
    sign.on_forced_exit = lambda: context.run(_abandon, run, artifacts, started)
    try:
        with report_progress(run, artifacts):
            sweep(profile, run.store, entry=run.entry, check_stopped=run.check_stopped)
            failure = run_dag(run).problem
    except Stopped:
        pass
    except MirrorflowError as error:
        failure = str(error)
    report = _finish(run, artifacts, started, failure)
    artifacts.publish(report)
    return _final_state(report)


def _finish(run: MirrorRun, artifacts: RunArtifacts, started: float, failure: str = "") -> Report:
    record_polls(run)
    if not failure:
        prune(run)
    report = build_report(run, started=started, run_id=artifacts.run_id, failure=failure)
    try:
        run.store.reports.save(run.entry.name, report.to_json())
    except StoreError as error:  # it is full, or read-only: Prefect and the terminal still show the report
        log.error("%s: the report cannot be kept: %s", report.registry, error)  # noqa: TRY400 - for people
    for problem in report.problems:
        log.error("%s", problem)
    for note in report.notes:
        log.warning("%s", note)
    log.info("%s: %s", report.registry, report.message)
    return report


def _abandon(run: MirrorRun, artifacts: RunArtifacts, started: float) -> None:
    """The last words of a run whose steps sleep: its report, and its state in the Prefect server."""
    report = _finish(run, artifacts, started)
    complain(f"{report.registry}: {report.message}")
    if artifacts.run_id:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(artifacts.run_id), Cancelled(message=report.message), force=True)


def _final_state(report: Report) -> State[None]:
    if report.stopped:
        return Cancelled(message=report.message)
    return (Completed if report.complete else Failed)(message=report.message)
