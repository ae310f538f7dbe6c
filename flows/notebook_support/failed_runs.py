"""Failed runs, why they failed, and running them again: for notebooks/rerun_failed.ipynb."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.notebook_support.sync_report import profile_store
from flows.orchestration.deployment_runs import RunRefused, await_run, failed_runs, start_run
from flows.orchestration.prefect_server import running_server
from flows.orchestration.sync import incomplete_images
from flows.settings import client_environment, own_server_wanted, prefect_home
from profiles.loader import load_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from flows.orchestration.deployment_runs import Run
    from registry_server.store.store import Store


@dataclass(frozen=True, slots=True)
class RunProblem:
    """Something that a run left behind: an image, or "" for what concerns more than one."""

    image: str
    step: str
    reason: str


@contextmanager
def connected(profile: Path) -> Iterator[tuple[SyncPrefectClient, Store]]:
    """The store of a profile, and a client of the Prefect server whose runner mirrors into it.

    Raises `RunRefused` when no such server runs: a run that is asked for would never begin.
    """
    store, home = profile_store(profile), prefect_home(load_profile(profile).profile.storage)
    api_url = os.environ["PREFECT_API_URL"] if not own_server_wanted(os.environ) else running_server(home)
    if api_url is None:
        raise RunRefused(f"no mirrorflow is running on {store.root}: start `mirrorflow up {profile}` first")
    environment = client_environment(os.environ, api_url=api_url, home=home, silent=True)
    os.environ.update({name: value for name, value in environment.items() if name != "PREFECT_API_URL"})
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        if (failure := client.api_healthcheck()) is not None:
            raise RunRefused(
                f"the Prefect server at {api_url} does not answer ({failure}): "
                "start it, or unset PREFECT_API_URL"
            )
        yield client, store


def failures(client: SyncPrefectClient, store: Store) -> list[Run]:
    """The runs of this store that failed or crashed, the newest first."""
    return failed_runs(client, store.uuid)


def why(store: Store, run: Run) -> list[RunProblem]:
    """What a run left behind, from its report; a run without one has only its state's message."""
    report = _report(store, run)
    if report is None:
        return [RunProblem("", run.state, run.message)]
    images = [
        RunProblem(image["image"], image["step"], image["reason"])
        for image in report["images"]
        if image["outcome"] in ("failed", "not reached")
    ]
    return [*images, *(RunProblem("", "", problem) for problem in report["problems"])]


def run_again(
    client: SyncPrefectClient,
    store: Store,
    run: Run,
    *,
    on_change: Callable[[Run], None] = lambda _run: None,
) -> Run:
    """Run what `run` left behind, or all of it where it left no report; returns the new run as it ended.

    Raises `RunRefused`.
    """
    report = _report(store, run)
    only = incomplete_images(report) if report is not None else ()
    started = start_run(client, store.uuid, run.registry, shard=run.shard, only=only)
    return await_run(client, started, on_change=on_change)


def _report(store: Store, run: Run) -> dict[str, Any] | None:
    """The newest report of a run: the UI's Retry runs one again under the same id."""
    found = [report for report in store.reports.load_all(run.part) if report["runId"] == str(run.id)]
    return found[-1] if found else None
