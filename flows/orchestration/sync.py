"""`sync` and `rerun`: through the deployments of a running `up`, through a Prefect server, or without one.

A Prefect server costs seconds to start. Where none is there, the same steps run in threads of this process.
"""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flows.entries import find_entry, open_store, part_name, shards_of
from flows.reporting.console import complain, out, say
from flows.reporting.last_runs import LEFT, last_runs
from flows.reporting.notify.after_run import tell_unless_served
from flows.reporting.report_tables import render_report
from flows.settings import client_environment, own_server_wanted, prefect_home
from profiles.values.shard import Shard
from tasks.run.errors import NotWanted
from tasks.run.only import home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flows.orchestration.deployment_runs import Run
    from profiles.loader import LoadedProfile
    from profiles.lock_file import LockedImage
    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry
    from registry_server.store.store import Store

    _Show = Callable[[Mapping[str, Any]], None]


_SIDE_BY_SIDE: Final = 4  # registry entries


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A registry entry to run, for all of it, for a shard, or for some images only.

    `locked`: exactly these images, with these digests, by their names here.
    """

    entry: RegistryEntry
    only: tuple[str, ...] = ()
    shard: Shard | None = None
    locked: Mapping[str, LockedImage] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """What is run, by the name of its deployment."""
        return part_name(self.entry.name, self.shard)

    def by_shard(self) -> list[SyncRequest]:
        """One for each deployment that has to run; the images go to the shards that they belong to."""
        if self.shard is not None or self.entry.shards == 1:
            return [self]
        shards = [each for each in Shard.all_of(self.entry.shards) if each is not None]
        if not self.only:
            return [replace(self, shard=shard) for shard in shards]
        found = ((shard, self._of(shard)) for shard in shards)
        return [SyncRequest(self.entry, items, shard) for shard, items in found if items]

    def _of(self, shard: Shard) -> tuple[str, ...]:
        return tuple(item for item in self.only if shard.owns(home_of(self.entry, item)))


@dataclass(frozen=True, slots=True)
class _Ending:
    """The type and the message of the state that a run ended in."""

    request: SyncRequest
    state: str
    message: str


def sync_entries(
    loaded: LoadedProfile,
    requests: Sequence[SyncRequest],
    *,
    prefect: bool = False,
    show: _Show | None = None,
) -> bool | None:
    """Run each request and print its report. True when all is in place, None when it was stopped.

    `prefect`: with a Prefect server of its own, where none is there. `show` gets each report instead of the
    terminal.
    """
    ended = _sync_entries(loaded, requests, prefect=prefect, show=show or _print_report)
    if ended is not None:
        tell_unless_served(loaded, say)
    return ended


def _sync_entries(
    loaded: LoadedProfile, requests: Sequence[SyncRequest], *, prefect: bool, show: _Show
) -> bool | None:
    store = open_store(loaded.profile)
    if any(request.locked for request in requests):  # deployments know no locks
        return _run_side_by_side(loaded, store, requests, show)
    if not (prefect or _is_served(store) or os.environ.get("PREFECT_API_URL")):
        _say_served_elsewhere(store)
        return _run_side_by_side(loaded, store, requests, show)
    from flows.orchestration.prefect_server import drain_prefect_queues, prefect_api

    home = prefect_home(loaded.profile.storage)
    with prefect_api(home, say=say) as api_url:
        environment = client_environment(os.environ, api_url=api_url, home=home, silent=True)
        os.environ.update(environment)
        try:
            return _run_all(loaded, store, requests, show)
        finally:
            drain_prefect_queues()


def _run_side_by_side(
    loaded: LoadedProfile, store: Store, requests: Sequence[SyncRequest], show: _Show
) -> bool | None:
    """Without Prefect: some entries at a time, each within its own limits. Reports come as runs end."""
    from flows.direct_run import run_direct
    from flows.lifecycle.stop_signals import stop_on_signals
    from flows.reporting.progress_bars import progress_bars

    gc.freeze()  # modules and models stay to the end: to look through them again and again finds nothing
    states = []
    with (
        stop_on_signals() as stop,
        progress_bars([request.part for request in requests]) as aside,
        ThreadPoolExecutor(_SIDE_BY_SIDE) as threads,
    ):
        run = partial(run_direct, loaded.path.absolute(), stop=stop)
        running = {
            threads.submit(
                copy_context().run,
                partial(run, shard=request.shard, locked=request.locked),
                request.entry.name,
                request.only,
            ): request
            for request in requests
        }
        for ended in as_completed(running):
            ending = _Ending(running[ended], *ended.result())
            states.append(ending.state)
            with aside():
                _show(store, ending, show)
    return None if "CANCELLED" in states else all(state == "COMPLETED" for state in states)


def _run_all(
    loaded: LoadedProfile, store: Store, requests: Sequence[SyncRequest], show: _Show
) -> bool | None:
    """Through Prefect, one after the other: its SQLite refuses runs that are created at once."""
    complete = True
    for request in requests:
        endings = _run(loaded, store, request)
        for ending in endings:
            _show(store, ending, show)
        if any(ending.state == "CANCELLED" for ending in endings):
            return None
        complete = complete and all(ending.state == "COMPLETED" for ending in endings)
    return complete


def _run(loaded: LoadedProfile, store: Store, request: SyncRequest) -> list[_Ending]:
    """Of the run, or of the run of each shard."""
    if _is_served(store):
        ended = _run_by_deployment(loaded, store, request.by_shard())
        if ended is not None:
            return ended
    return [_run_here(loaded, request)]


def _is_served(store: Store) -> bool:
    """Whether an `up` runs on this store whose Prefect server can be reached.

    Its own server can be reached from its own host only; with PREFECT_API_URL, hosts have one in common.
    """
    return store.is_claimed_here("up") if own_server_wanted(os.environ) else store.is_claimed("up")


def _say_served_elsewhere(store: Store) -> None:
    if up := store.claimant("up"):
        say(
            f"`mirrorflow up` runs on the host {up.host} (pid {up.pid}), and its Prefect server cannot be "
            "reached from this one: the run goes on without Prefect"
        )


def _run_here(loaded: LoadedProfile, request: SyncRequest) -> _Ending:
    from flows.orchestration.in_process import run_in_process
    from flows.reporting.progress_bars import progress_bars

    with progress_bars([request.part]):
        state = run_in_process(loaded.path.absolute(), request.entry.name, request.only, request.shard)
    return _Ending(request, state.type.value, state.message or "")


def _run_by_deployment(
    loaded: LoadedProfile, store: Store, requests: Sequence[SyncRequest]
) -> list[_Ending] | None:
    """Through `up`, where the runs can be seen and retried, side by side; None when it has another profile
    than ours, or other shards."""
    from prefect.client.orchestration import get_client

    from flows.orchestration.deployment_runs import cancel_runs, start_run

    runs: list[Run] = []
    with get_client(sync_client=True) as client:
        if not _has_deployments(client, loaded, store, requests):
            return None
        say(f"{requests[0].entry.name}: the running `mirrorflow up` does it")
        try:
            for each in requests:  # one after the other: Ctrl-C cancels those that were started
                run = start_run(client, store.uuid, each.entry.name, shard=each.shard, only=each.only)
                runs.append(run)
            ended = _follow(client, runs)
        except KeyboardInterrupt:
            say("stopping the run" if len(runs) == 1 else "stopping the runs")
            cancel_runs(client, runs)
            return [_Ending(each, "CANCELLED", "stopped") for each in requests]
    return [
        _Ending(request, _state_of(run), run.message) for request, run in zip(requests, ended, strict=True)
    ]


def _follow(client: Any, runs: Sequence[Run]) -> list[Run]:
    """With a bar for each, from what they tell the Prefect server of their progress."""
    from flows.orchestration.deployment_runs import await_runs, read_progress
    from flows.reporting.progress_bars import remote_bars

    with remote_bars([run.part for run in runs]) as show:

        def look(run: Run) -> None:
            if (progress := read_progress(client, run.id)) is not None:
                show(run.part, *progress)

        return await_runs(client, runs, on_change=lambda run: say(f"{run.part}: {run.state}"), on_look=look)


def _state_of(run: Run) -> str:
    return "COMPLETED" if run.completed else "CANCELLED" if run.state == "Cancelled" else "FAILED"


def _has_deployments(
    client: Any, loaded: LoadedProfile, store: Store, requests: Sequence[SyncRequest]
) -> bool:
    from flows.orchestration.deployments import our_deployments

    path = str(loaded.path.absolute())
    ours = {
        each.name for each in our_deployments(client, store.uuid) if each.parameters.get("profile") == path
    }
    return all(request.part in ours for request in requests)


def _show(store: Store, ending: _Ending, show: _Show) -> None:
    """The report that the run left; a run that ended before it began left only its message."""
    newest = store.reports.load_all(ending.request.part)[-1:]
    if newest and newest[0]["message"] == ending.message:
        show(newest[0])
    elif ending.state == "COMPLETED":
        say(ending.message)
    else:
        complain(ending.message)


def _print_report(report: Mapping[str, Any]) -> None:
    for line in render_report(report):
        out.print(line)


def rerun_requests(profile: Profile, run: str | None) -> list[SyncRequest]:
    """The images that failed in the run of this id, or in the last whole run of each registry entry.

    Without an id, a run for some images only is not repeated, and what a later run put in place is left out.
    A run that failed as a whole, or in a whole repository, is run again as a whole. Raises `NotWanted` for an
    unknown run.
    """
    reports = open_store(profile).reports.load_all()
    if run:
        chosen = [report for report in reports if report["runId"] == run]
        if not chosen:
            raise NotWanted(
                f"the store has no report of a run {run!r}; `mirrorflow status` lists the last runs"
            )
        return [
            _rerun_of(find_entry(profile, report["registry"]), report)
            for report in chosen[-1:]
            if report["state"] != "complete"
        ]
    last = last_runs(reports, shards_of(profile))
    return [
        SyncRequest(entry, last[entry.name].to_rerun)
        for entry in profile.sync.registries
        if entry.name in last and not last[entry.name].is_complete
    ]


def _rerun_of(entry: RegistryEntry, report: Mapping[str, Any]) -> SyncRequest:
    """Of a shard that the entry does not have any more, the whole entry."""
    images, text = incomplete_images(report), report.get("shard", "")
    shard = Shard.parse(text) if text and not images else None
    return SyncRequest(entry, images, shard if shard in Shard.all_of(entry.shards) else None)


def incomplete_images(report: Mapping[str, Any]) -> tuple[str, ...]:
    """The images of a report that are not in place; () means everything, because more than images failed."""
    if report["problems"] and not report["only"]:
        return ()
    left = tuple(image["image"] for image in report["images"] if image["outcome"] in LEFT)
    return left or tuple(report["only"])
