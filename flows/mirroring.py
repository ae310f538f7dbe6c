"""One run of one registry entry from its parameters to its report, whichever engine carries the steps out."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from flows.entries import find_entry, open_store, part_name
from flows.lifecycle.accepted_profile import load_accepted
from flows.lifecycle.stop_signals import StopSignal, stop_on_signals
from flows.processes import share_of, where_steps_run
from flows.reporting.last_runs import outdated_parts
from flows.reporting.progress import report_progress
from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import StoreError
from tasks.context.mirror_run import open_run
from tasks.engines.dag import Dag
from tasks.results.poll_records import record_polls
from tasks.results.report import Report, build_report
from tasks.run.errors import Unexpected
from tasks.run.record import RunRecord
from tasks.stored.policy_sweep import sweep
from tasks.stored.pruning import prune
from tasks.upstream.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from profiles.lock_file import LockedImage
    from profiles.model.profile import Profile
    from profiles.values.shard import Shard
    from registry_server.store.mirror_state.run_reports import Reports
    from tasks.context.mirror_run import MirrorRun
    from tasks.engines.dag import Engine
    from tasks.engines.direct_engine import Call

    OpenEngine = Callable[[MirrorRun, Call], AbstractContextManager[Engine]]

log = logging.getLogger("mirrorflow")


class Display(Protocol):
    """Where a run is shown. `run_id` is its id in reports."""

    run_id: str

    def progress(self, percent: float, words: str) -> None:
        """How far the run is; called from one thread at a time."""
        ...

    def publish(self, report: Report) -> None:
        """The run has ended."""
        ...

    def not_saved(self, reason: str) -> None:
        """The store has no report of this run."""
        ...

    def abandoned(self, report: Report) -> bool:
        """Steps do not end although they were asked to; the process exits next. Any thread may call.

        Whether the Prefect server knows how the run has ended.
        """
        ...


def mirror_entry(
    profile_path: Path,
    registry: str,
    only: Sequence[str],
    *,
    engine: OpenEngine,
    display: Display,
    stop: StopSignal | None = None,
    shard: Shard | None = None,
    locked: Mapping[str, LockedImage] | None = None,
) -> Report:
    """Run the DAG for one registry entry, or a shard of it, and write its report.

    Raises `MirrorflowError` at the start.
    `stop`: what stops this run and others; without, the signals of this process. `locked` as of `open_run`.
    """
    loaded = load_accepted(profile_path)
    profile = loaded.profile
    store = open_store(profile)
    limited, entry = share_of(profile, find_entry(profile, registry), shard.of if shard else 1)
    with (
        nullcontext(stop) if stop else stop_on_signals() as sign,
        store.lease(),  # however long a blob takes, no garbage collector has it before its tag is there
        open_run(limited, entry, store, only=only, stop=sign.event, shard=shard, locked=locked) as run,
        where_steps_run(run, profile, profile_path) as call,
        engine(run, call) as opened,
    ):
        return _Mirroring(profile, run, opened, display, store.reports).mirror(sign)


@dataclass(slots=True)
class _Mirroring:
    """A run between two looks at the clock; whatever happens, the report is written."""

    profile: Profile
    run: MirrorRun
    engine: Engine
    display: Display
    reports: Reports
    record: RunRecord = field(default_factory=RunRecord)
    started: float = field(default_factory=time.time)

    def mirror(self, sign: StopSignal) -> Report:
        with sign.on_forced_exit_do(lambda: self.display.abandoned(self._report(""))):
            return self._mirror()

    def _mirror(self) -> Report:
        failure = ""
        try:
            with report_progress(self.run, self.record, self.display):
                failure = self._do()
        except Stopped:
            pass
        except MirrorflowError as error:
            failure = str(error)
        except Exception as error:
            log.exception("unexpected error in the run of %s", self.run.entry.name)
            failure = str(Unexpected(error))
        report = self._report(failure)
        self.display.publish(report)
        return report

    def _do(self) -> str:
        run = self.run
        if run.targets.has_store:  # what another registry has is not ours to hide
            sweep(self.profile, run.store, entry=run.entry, check_stopped=run.check_stopped)
        return Dag(run, self.engine, self.record).mirror()

    def _report(self, failure: str) -> Report:
        run, record = self.run, self.record
        record_polls(run, record)
        if not failure:
            prune(run, record.polled())
        record.remarks.update(dict.fromkeys(run.live.take_remarks()))
        report = build_report(run, record, started=self.started, run_id=self.display.run_id, failure=failure)
        try:
            self.reports.save(part_name(run.entry.name, run.shard), report.to_json())
            for old in outdated_parts(self.reports.names(), run.entry.name, run.entry.shards):
                self.reports.discard(old)
        except StoreError as error:  # it is full, or read-only: the report is shown all the same
            self.display.not_saved(f"{report.registry}: cannot save the report: {error}")
        _log(report)
        return report


def _log(report: Report) -> None:
    for problem in report.problems:
        log.error("%s", problem)
    for note in report.notes:
        log.warning("%s", note)
    log.info("%s: %s", part_name(report.registry, report.shard), report.message)
