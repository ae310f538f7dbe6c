"""One run from its parameters to its final state: what the flow does, without the decorator."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.states import Cancelled, Completed, Failed
from profiles.loading import load_profile

from flows.artifacts import RunArtifacts
from flows.dag import run_dag
from flows.progress import reporting
from flows.stopping import stop_on_signals
from registry_server.oci.errors import MirrorflowError
from registry_server.store.store import Store
from tasks.errors import NotWanted
from tasks.polling import record_polls
from tasks.report import Report, build_report
from tasks.run import open_run
from tasks.upstream.errors import Stopped
from tasks.verify_signature import refuse_policies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from profiles.model import Profile
    from profiles.sync import RegistryEntry
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


def find_entry(profile: Profile, registry: str) -> RegistryEntry:
    """The entry of that name. Raises `NotWanted` naming those that there are."""
    for entry in profile.sync.registries:
        if entry.name == registry:
            return entry
    names = ", ".join(entry.name for entry in profile.sync.registries) or "none"
    raise NotWanted(f"the profile has no registry entry {registry!r}; it has: {names}")


def open_store(profile: Profile) -> Store:
    """The store that the profile names. Raises `StoreError`."""
    storage = profile.storage
    return Store.open(
        storage.root_directory,
        subpaths={path: sub.root_directory for path, sub in storage.sub_paths.items()},
        durability="full" if storage.commit else "batch",
    )
