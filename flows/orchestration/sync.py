"""`sync` and `rerun`: through the deployments of a running `up`, through a Prefect server, or without one.

A Prefect server costs seconds to start. Where none is there, the same steps run in threads of this process.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flows.entries import find_entry, open_store
from flows.reporting.console import complain, out, say
from flows.reporting.last_runs import LEFT, last_runs
from flows.reporting.report_tables import render_report
from flows.settings import client_environment, own_server_wanted, prefect_home
from tasks.run.errors import NotWanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flows.orchestration.deployment_runs import Run
    from profiles.loader import LoadedProfile
    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry
    from registry_server.store.store import Store

    _Show = Callable[[Mapping[str, Any]], None]


_SIDE_BY_SIDE: Final = 4  # registry entries


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A registry entry to run, for all of it or for some images only."""

    entry: RegistryEntry
    only: tuple[str, ...] = ()


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
    show = show or _print_report
    store = open_store(loaded.profile)
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

    states = []
    with (
        stop_on_signals() as stop,
        progress_bars([request.entry.name for request in requests]) as aside,
        ThreadPoolExecutor(_SIDE_BY_SIDE) as threads,
    ):
        run = partial(run_direct, loaded.path.absolute(), stop=stop)
        running = {
            threads.submit(copy_context().run, run, request.entry.name, request.only): request
            for request in requests
        }
        for ended in as_completed(running):
            state, message = ended.result()
            states.append(state)
            with aside():
                _show(store, running[ended].entry.name, state, message, show)
    return None if "CANCELLED" in states else all(state == "COMPLETED" for state in states)


def _run_all(
    loaded: LoadedProfile, store: Store, requests: Sequence[SyncRequest], show: _Show
) -> bool | None:
    """Through Prefect, one after the other: its SQLite refuses runs that are created at once."""
    complete = True
    for request in requests:
        state, message = _run(loaded, store, request)
        _show(store, request.entry.name, state, message, show)
        if state == "CANCELLED":
            return None
        complete = complete and state == "COMPLETED"
    return complete


def _run(loaded: LoadedProfile, store: Store, request: SyncRequest) -> tuple[str, str]:
    """The type and the message of the state that the run ended in."""
    if _is_served(store):
        ended = _run_by_deployment(loaded, store, request)
        if ended is not None:
            return ended
    return _run_here(loaded, request)


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


def _run_here(loaded: LoadedProfile, request: SyncRequest) -> tuple[str, str]:
    from flows.orchestration.in_process import run_in_process
    from flows.reporting.progress_bars import progress_bars

    with progress_bars([request.entry.name]):
        state = run_in_process(loaded.path.absolute(), request.entry.name, request.only)
    return state.type.value, state.message or ""


def _run_by_deployment(loaded: LoadedProfile, store: Store, request: SyncRequest) -> tuple[str, str] | None:
    """Through `up`, where the run can be seen and retried; None when it has another profile than ours."""
    from prefect.client.orchestration import get_client

    from flows.orchestration.deployment_runs import await_run, cancel_run, start_run

    with get_client(sync_client=True) as client:
        if not _has_deployment(client, loaded, store, request):
            return None
        say(f"{request.entry.name}: the running `mirrorflow up` does it")
        run = start_run(
            client, store.uuid, request.entry.name, only=request.only, name=f"mirror {request.entry.name}"
        )
        try:
            ended: Run = await_run(client, run, on_change=lambda each: say(f"{each.registry}: {each.state}"))
        except KeyboardInterrupt:
            say("stopping the run")
            cancel_run(client, run)
            return "CANCELLED", "stopped"
    return (
        "COMPLETED" if ended.completed else "CANCELLED" if ended.state == "Cancelled" else "FAILED"
    ), ended.message


def _has_deployment(client: Any, loaded: LoadedProfile, store: Store, request: SyncRequest) -> bool:
    from flows.orchestration.deployments import our_deployments

    return any(
        each.name == request.entry.name and each.parameters.get("profile") == str(loaded.path.absolute())
        for each in our_deployments(client, store.uuid)
    )


def _show(store: Store, registry: str, state: str, message: str, show: _Show) -> None:
    """The report that the run left; a run that ended before it began left only its message."""
    newest = store.reports.load_all(registry)[-1:]
    if newest and newest[0]["message"] == message:
        show(newest[0])
    elif state == "COMPLETED":
        say(message)
    else:
        complain(message)


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
            SyncRequest(find_entry(profile, report["registry"]), incomplete_images(report))
            for report in chosen[-1:]
            if report["state"] != "complete"
        ]
    last = last_runs(reports)
    return [
        SyncRequest(entry, last[entry.name].to_rerun)
        for entry in profile.sync.registries
        if entry.name in last and not last[entry.name].is_complete
    ]


def incomplete_images(report: Mapping[str, Any]) -> tuple[str, ...]:
    """The images of a report that are not in place; () means everything, because more than images failed."""
    if report["problems"] and not report["only"]:
        return ()
    left = tuple(image["image"] for image in report["images"] if image["outcome"] in LEFT)
    return left or tuple(report["only"])
