"""What executes the runs while `up` runs: a process of its own around Prefect's Runner.

`python -m flows.orchestration.runner OPTIONS` (JSON). It mends what an earlier one left over, applies the
deployments of the profile, starts a process for each run that is due, takes over a changed profile,
and on SIGTERM ends the runs (SIGTERM, SIGKILL after 10 s) and pauses the deployments. What a person
should hear of goes to `report_fd`, a JSON object a line (runner_events.py); everything else that Prefect
prints goes to a log file.

Each run has a process of its own, forked from one that has imported Prefect (warm_process.py): it can be
killed, its memory is given back, and it costs no import.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flows.entries import open_store
from flows.lifecycle.accepted_profile import accept
from flows.lifecycle.profile_watch import ProfileWatch
from flows.orchestration.crash_cleanup import clear_leftovers
from flows.orchestration.deployment_definitions import definitions
from flows.orchestration.deployments import ENTRYPOINT, apply_definitions, pause_deployments
from flows.orchestration.flow_run_query import find_flow_runs, name_planned_runs
from flows.orchestration.runner_events import (
    DeploymentsApplied,
    EventWriter,
    LeftoversCleared,
    ProfileRefused,
    RunEnded,
    RunnerFailed,
    compare,
    failed_lines,
)
from flows.orchestration.user_server import describe_prefect_error, shown_url
from flows.orchestration.warm_process import WarmProcess
from registry_server.oci.errors import MirrorflowError
from tasks.stored.policy_sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.deployments.runner import RunnerDeployment
    from prefect.runner import Runner

    from flows.orchestration.deployments import Changes, Definition, FirstRuns
    from profiles.model.profile import Profile

T = TypeVar("T")
GRACE = 10.0  # seconds
HTTP_CHANGED = "`http` has changed: the registry server listens there when `mirrorflow up` is restarted"
_POLL = 3.0  # seconds between two questions for runs that are due, unless Prefect's settings say otherwise
_PREFETCH = 2.0  # seconds that a run is started early: about what its process needs to come up
_WATCH = 1.0  # seconds
_FORCED_EXIT_DELAY = 1.5  # seconds beyond the grace; Prefect's client would retry for minutes


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """`folder` is where the accepted profile is kept. `entrypoint` is the flow's, and `grace` what a run
    gets from SIGTERM to SIGKILL, in seconds; tests have their own."""

    profile: str
    folder: str
    store_uuid: str
    report_fd: int
    entrypoint: str = ENTRYPOINT
    grace: float = GRACE

    def arguments(self) -> list[str]:
        return ["-m", "flows.orchestration.runner", json.dumps(asdict(self))]


class RunnerProcess:
    """The runner, its deployments and the watch on the profile."""

    def __init__(self, options: RunnerOptions, report: EventWriter) -> None:
        self._options = options
        self._report = report
        self._profile = Path(options.profile)
        self._accepted: Profile | None = None
        self._watch = ProfileWatch(self._profile)
        self._refused = ""
        self._wanted: tuple[Definition, ...] = ()
        self._ids: dict[UUID, str] = {}
        self._told: set[tuple[UUID, datetime | None]] = set()
        self._stop = asyncio.Event()
        self._warm = WarmProcess(Path(options.folder))

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises MirrorflowError when it cannot start."""
        from prefect.runner import Runner
        from prefect.settings import get_current_settings

        settings = get_current_settings().runner
        limited = "process_limit" in settings.model_fields_set
        wanted = self._load()
        chosen = "poll_frequency" in settings.model_fields_set
        runner = Runner(
            name="mirrorflow",
            query_seconds=settings.poll_frequency if chosen else _POLL,
            prefetch_seconds=_PREFETCH,
            pause_on_shutdown=False,
            limit=process_limit(wanted, settings.process_limit, is_chosen=limited),
        )
        self._warm.start()
        await self._begin(runner, wanted)
        serving = asyncio.create_task(runner.start())
        watching = asyncio.create_task(self._follow(runner))
        await asyncio.sleep(0)  # `start` sets its own handler first, which would end in the middle of it
        self._handle_signals()
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({serving, watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await self._end(runner, serving, watching)

    async def _begin(self, runner: Runner, wanted: tuple[Definition, ...]) -> None:
        cleared = await _with_client(lambda client: clear_leftovers(client, self._options.store_uuid))
        if cleared:
            self._report(LeftoversCleared(cleared.crashed, cleared.dropped))
        changes = await self._apply(runner, wanted, "overdue")
        self._report(DeploymentsApplied.of(changes))

    async def _apply(self, runner: Runner, wanted: tuple[Definition, ...], first_runs: FirstRuns) -> Changes:
        changes = await _with_client(
            lambda client: apply_definitions(
                client,
                wanted,
                store_uuid=self._options.store_uuid,
                home=Path(self._options.folder),
                entrypoint=self._options.entrypoint,
                first_runs=first_runs,
            )
        )
        for applied in [each for each in changes.applied if each.work_pool is None]:  # others have workers
            stand_in = cast("RunnerDeployment", _Registered(applied.id, applied.name))
            await runner.aadd_deployment(stand_in)
        self._ids = {applied.id: applied.name for applied in changes.applied}
        self._wanted = wanted
        return changes

    async def _follow(self, runner: Runner) -> None:
        """Once a second: the profile; every few seconds: which runs have ended, and which are planned."""
        self._told = {(run.id, run.end_time) for run in await self._ended_runs()}
        for beat in range(sys.maxsize):
            await asyncio.sleep(_WATCH)
            if self._watch.changed():
                await self._take_over(runner)
            self._warm.ensure()
            if beat % 5 == 0:
                with suppress(Exception):  # a server that is away for a moment is Prefect's business
                    await self._tell_ended_runs()
                    await self._name_planned_runs()

    async def _take_over(self, runner: Runner) -> None:
        """Apply the changed profile; a bad one is refused and tried again later, and the old one stays."""
        try:
            before, http = self._wanted, self._accepted and self._accepted.http
            wanted = self._load()
            changes = await self._apply(runner, wanted, "new")
        except MirrorflowError as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001 - whatever Prefect raises: the next try may do better
            self._refuse(f"the Prefect server did not take it over: {error}")
        else:
            self._refused = ""
            notes = ["" if self._accepted and self._accepted.http == http else HTTP_CHANGED]
            notes.append(await asyncio.to_thread(self._apply_policies))
            note = "; ".join(filter(None, notes))
            self._report(compare(before, wanted, DeploymentsApplied.of(changes), note=note))

    def _refuse(self, reason: str) -> None:
        """Try again in a while; the same reason is reported once."""
        self._watch.refused()
        if reason != self._refused:
            self._report(ProfileRefused(reason))
        self._refused = reason

    def _apply_policies(self) -> str:
        """What the policies of the new profile refuse is hidden now, and not by the next poll."""
        assert self._accepted is not None, "it was taken over"
        try:
            swept = sweep(self._accepted, open_store(self._accepted))
        except MirrorflowError as error:
            return f"stored images could not be judged: {error}"
        return str(swept) if swept else ""

    def _load(self) -> tuple[Definition, ...]:
        """The definitions of the profile on disk. Raises MirrorflowError, and then nothing has changed."""
        storage = self._accepted.storage if self._accepted else None
        loaded, variable = accept(self._profile, Path(self._options.folder), storage=storage)
        os.environ.update(variable)  # the runs inherit it
        self._accepted = loaded.profile
        self._watch.accepted(loaded.profile)
        return definitions(loaded.profile, self._profile)

    async def _ended_runs(self) -> Sequence[Any]:
        ids = list(self._ids)
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        return await _with_client(lambda client: find_flow_runs(client, ids, types=final, limit=20))

    async def _tell_ended_runs(self) -> None:
        for run in reversed(await self._ended_runs()):
            ending = run.id, run.end_time  # a run that is retried ends again
            if ending not in self._told and run.start_time is not None:
                name = self._ids.get(run.deployment_id, "?")
                failed = await asyncio.to_thread(self._failed, name, str(run.id))
                self._report(RunEnded(name, run.state_name or "", run.state.message or "", failed))
            self._told.add(ending)

    async def _name_planned_runs(self) -> None:
        ids = dict(self._ids)
        await _with_client(lambda client: name_planned_runs(client, ids))

    def _failed(self, entry: str, run_id: str) -> tuple[str, ...]:
        """What the report of a run says of its failures; () while there is no report of it."""
        assert self._accepted is not None, "it was taken over"
        with suppress(MirrorflowError):
            for report in reversed(open_store(self._accepted).reports.load_all(entry)[-5:]):
                if report["runId"] == run_id:
                    return failed_lines(report)
        return ()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _end(self, runner: Runner, serving: asyncio.Task[None], watching: asyncio.Task[None]) -> None:
        watching.cancel()
        # Nothing of Prefect's may hold the exit up: with the server gone its client retries for minutes.
        asyncio.get_running_loop().call_later(self._options.grace + _FORCED_EXIT_DELAY, _force_exit)
        pausing = asyncio.create_task(
            _with_client(lambda client: pause_deployments(client, self._options.store_uuid))
        )
        await end_children(self._options.grace)
        with suppress(Exception):
            await pausing
        if serving.done():
            serving.result()  # it ended by itself: let its error be seen
            return
        with suppress(Exception):
            await runner.astop()
            await serving


def process_limit(wanted: Sequence[Definition], limit: int, *, is_chosen: bool) -> int:
    """How many runs may be under way at once.

    `limit` is Prefect's. The shards of an entry are for running side by side: unless a user has chosen the
    limit (PREFECT_RUNNER_PROCESS_LIMIT), those of an entry count for one run.
    """
    if is_chosen:
        return limit
    entries = {str(each.parameters.get("registry", each.name)) for each in wanted}
    return limit + len(wanted) - len(entries)


@dataclass(frozen=True, slots=True)
class _Registered:
    """A deployment that the server has already, in the shape that `Runner.aadd_deployment` takes."""

    id: UUID
    name: str
    storage: None = None

    async def aapply(self) -> UUID:
        return self.id


async def end_children(grace: float) -> None:
    """SIGTERM to each child of this process at once, SIGKILL to those that are there after `grace` seconds.

    Prefect's own way takes them one after the other, with 30 s each.
    """
    children = child_pids()
    for pid in children:
        _signal(pid, signal.SIGTERM)
    waited = 0.0
    while waited < grace and set(child_pids()) & set(children):
        await asyncio.sleep(0.1)
        waited += 0.1
    for pid in set(child_pids()) & set(children):
        _signal(pid, signal.SIGKILL)


def child_pids() -> list[int]:
    """The processes that this one has started and that have not ended (Linux; elsewhere none is found)."""
    found: list[int] = []
    for thread in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += [int(pid) for pid in thread.read_text().split()]
    return found


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _force_exit() -> None:
    for pid in child_pids():
        _signal(pid, signal.SIGKILL)
    os._exit(1)


async def _with_client(ask: Callable[[SyncPrefectClient], T]) -> T:
    """Ask the server in a thread: the runner's loop goes on meanwhile."""

    def asking() -> T:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            return ask(client)

    return await asyncio.to_thread(asking)


def main() -> int:
    """0 after a stop that was asked for, 1 after an error, which is reported."""
    options = RunnerOptions(**json.loads(sys.argv[1]))
    report = EventWriter(options.report_fd)
    try:
        asyncio.run(RunnerProcess(options, report).run())
    except MirrorflowError as error:
        report(RunnerFailed(str(error)))
        return 1
    except Exception as error:
        server = shown_url(os.environ["PREFECT_API_URL"])
        said = describe_prefect_error(error, server) or f"Prefect: {str(error) or type(error).__name__}"
        report(RunnerFailed(said))
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
