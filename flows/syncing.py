"""`sync` and `rerun`: through the deployments of a running `up`, else in this process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from flows.console import complain, out, say
from flows.delivery import deliver
from flows.entries import open_store
from flows.prefect_server import prefect_api
from flows.render import render_report
from flows.settings import client_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.rerun_client import Run
    from profiles.loading import LoadedProfile
    from profiles.sync import RegistryEntry
    from registry_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Wish:
    """A registry entry to run, for all of it or for some images only."""

    entry: RegistryEntry
    only: tuple[str, ...] = ()


def sync_entries(loaded: LoadedProfile, wishes: Sequence[Wish]) -> bool | None:
    """Run each wish and print its report. True when all is in place, None when it was stopped."""
    store = open_store(loaded.profile)
    with prefect_api(store.root, say=say) as api_url:
        environment = client_environment(os.environ, api_url=api_url, store_root=store.root, silent=True)
        os.environ.update(environment)
        try:
            return _run_all(loaded, store, wishes)
        finally:
            deliver()


def _run_all(loaded: LoadedProfile, store: Store, wishes: Sequence[Wish]) -> bool | None:
    complete = True
    for wish in wishes:
        state, message = _run(loaded, store, wish)
        _show(store, state, message)
        if state == "CANCELLED":
            return None
        complete = complete and state == "COMPLETED"
    return complete


def _run(loaded: LoadedProfile, store: Store, wish: Wish) -> tuple[str, str]:
    """The type and the message of the state that the run ended in."""
    if _is_served(store):
        ended = _run_by_deployment(loaded, store, wish)
        if ended is not None:
            return ended
    return _run_here(loaded, wish)


def _is_served(store: Store) -> bool:
    """Whether an `up` runs on this store."""
    return store.is_claimed("up")


def _run_here(loaded: LoadedProfile, wish: Wish) -> tuple[str, str]:
    from flows.bars import bars
    from flows.in_process import run_in_process

    with bars(wish.entry.name):
        state = run_in_process(loaded.path.absolute(), wish.entry.name, wish.only)
    return state.type.value, state.message or ""


def _run_by_deployment(loaded: LoadedProfile, store: Store, wish: Wish) -> tuple[str, str] | None:
    """Through `up`, where the run can be seen and retried; None when it has another profile than ours."""
    from prefect.client.orchestration import get_client

    from flows.rerun_client import await_run, cancel_run, start_run

    with get_client(sync_client=True) as client:
        if not _has_deployment(client, loaded, store, wish):
            return None
        say(f"{wish.entry.name}: the running `mirrorflow up` does it")
        run = start_run(client, store.uuid, wish.entry.name, only=wish.only, name=f"mirror {wish.entry.name}")
        try:
            ended: Run = await_run(client, run, on_change=lambda each: say(f"{each.registry}: {each.state}"))
        except KeyboardInterrupt:
            say("stopping the run")
            cancel_run(client, run)
            return "CANCELLED", "stopped"
    return (
        "COMPLETED" if ended.completed else "CANCELLED" if ended.state == "Cancelled" else "FAILED"
    ), ended.message


def _has_deployment(client: Any, loaded: LoadedProfile, store: Store, wish: Wish) -> bool:
    from flows.deployments import our_deployments

    return any(
        each.name == wish.entry.name and each.parameters.get("profile") == str(loaded.path.absolute())
        for each in our_deployments(client, store.uuid)
    )


def _show(store: Store, state: str, message: str) -> None:
    """The report that the run left; a run that ended before it began left only its message."""
    reports = store.reports.load_all()
    newest = max(reports, key=lambda report: report["ended"], default=None)
    if newest is not None and newest["message"] == message:
        for line in render_report(newest):
            out.print(line)
    elif state == "COMPLETED":
        out.print(Text(message))
    else:
        complain(message)
