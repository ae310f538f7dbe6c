"""`deploy`: the deployments of a profile on an existing Prefect server, for workers of a work pool."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import httpx

from flows.entries import open_store
from flows.orchestration.deployment_definitions import definitions
from flows.orchestration.deployments import DeploymentError, all_variables, apply_definitions
from flows.orchestration.user_server import named_prefect_errors, require_server
from flows.orchestration.work_pools import crash_detection
from flows.orchestration.work_pools.job_variables import ensure_work_pool, require_fit
from flows.orchestration.work_pools.profile_source import ProfileByPath, in_block, in_git
from flows.settings import MANY_RUNS, client_environment, own_server_wanted, prefect_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from flows.orchestration.deployments import Applied, Definition
    from flows.orchestration.work_pools.job_variables import PoolType
    from flows.orchestration.work_pools.profile_source import ProfileSource
    from profiles.loader import LoadedProfile
    from profiles.model.profile import Profile


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """What a user asks for beside the profile.

    `job_variables` are for all entries; `create_pool` is the type of a pool that is made if there is none.
    The profile is where `profile_block` or `git` says, or else under its path on each host. `write` is the
    file that the deployments are written to, instead of to a server.
    """

    work_pool: str | None = None
    create_pool: PoolType | None = None
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    profile_block: str | None = None
    git: str | None = None
    branch: str | None = None
    git_secret: str | None = None
    write: Path | None = None

    def source(self, loaded: LoadedProfile) -> ProfileSource:
        """Raises `DeploymentError` where the request is contradictory, or the profile does not fit it."""
        if self.profile_block and self.git:
            raise DeploymentError("give --profile-block or --git: a run has one profile")
        needs_pool = {
            "--create-pool": self.create_pool,
            "--job-variable": self.job_variables,
            "--profile-block": self.profile_block,
            "--git": self.git,
            "--write": self.write,
        }
        if self.work_pool is None and (used := [name for name, value in needs_pool.items() if value]):
            raise DeploymentError(f"{used[0]} is for workers: name their work pool with --work-pool POOL")
        if not self.git and (self.branch or self.git_secret):
            raise DeploymentError("--branch and --git-secret belong to --git URL")
        if self.write and (self.profile_block or self.create_pool):
            raise DeploymentError(
                "--write asks no server, and so it makes neither a block nor a work pool; leave out "
                "--profile-block and --create-pool"
            )
        if self.profile_block:
            return in_block(loaded, self.profile_block)
        if self.git:
            return in_git(loaded, self.git, branch=self.branch, secret=self.git_secret)
        return ProfileByPath(loaded.path)


def deploy_profile(loaded: LoadedProfile, request: DeployRequest) -> Iterator[str]:
    """Apply all deployments of the profile and remove those that it no longer names; one line for each.

    The workers need this package and the store's file system. Raises `DeploymentError`, and
    `PrefectServerError`.
    """
    source = request.source(loaded)
    if request.write is not None:
        yield from _write(loaded, request, source, request.write)
        return
    api_url = _require_server()
    store = open_store(loaded.profile)
    home = prefect_home(loaded.profile.storage)
    os.environ.update(client_environment(os.environ, api_url=api_url, home=home, silent=True))
    from prefect.client.orchestration import get_client

    wanted = worker_definitions(loaded, source, request.job_variables)
    pool = request.work_pool
    with named_prefect_errors(api_url), get_client(sync_client=True) as client:
        if pool is not None:
            _require_pool(client, pool, request.create_pool, wanted)
        source.save()
        changes = apply_definitions(client, wanted, store_uuid=store.uuid, home=home, work_pool=pool)
        _apply_automations(client, store.uuid, wanted)
        notes = (database_note(client, loaded.profile), crash_detection.triggers_note(client))
    for applied, definition in zip(changes.applied, wanted, strict=True):
        yield from _lines(applied, definition)
    for name in changes.removed:
        yield f"removed   mirror_registry/{name}"
    yield from (f"note      {note}" for note in notes if note)


def worker_definitions(
    loaded: LoadedProfile, source: ProfileSource, job_variables: Mapping[str, Any]
) -> tuple[Definition, ...]:
    """The deployments of a profile for workers that find it at `source`."""
    return tuple(
        replace(
            each,
            parameters={**each.parameters, "profile": source.profile},
            pull_steps=source.pull_steps,
            given_variables=job_variables,
        )
        for each in definitions(loaded.profile, loaded.path.absolute())
    )


def _write(loaded: LoadedProfile, request: DeployRequest, source: ProfileSource, path: Path) -> Iterator[str]:
    from flows.orchestration.work_pools.prefect_yaml import write_files

    assert request.work_pool is not None, "the request was checked"
    wanted = worker_definitions(loaded, source, request.job_variables)
    store = open_store(loaded.profile)
    yield from write_files(path, wanted, store_uuid=store.uuid, work_pool=request.work_pool)


def _require_server() -> str:
    if own_server_wanted(os.environ):
        raise DeploymentError(
            "deploy needs a Prefect server that runs already: set PREFECT_API_URL to its address, e.g. "
            "http://prefect.example:4200/api; without one, `mirrorflow up` brings its own"
        )
    api_url = os.environ["PREFECT_API_URL"]
    require_server(api_url)
    return api_url


def _require_pool(
    client: SyncPrefectClient, name: str, create: PoolType | None, wanted: Sequence[Definition]
) -> None:
    """Before anything is registered."""
    pool = ensure_work_pool(client, name, create)
    for each in wanted:
        require_fit(pool, each.name, all_variables(each))


def _apply_automations(client: SyncPrefectClient, store_uuid: str, wanted: Sequence[Definition]) -> None:
    automations = crash_detection.automations(store_uuid, crash_detection.silence_allowed(wanted))
    if wanted:
        crash_detection.apply_automations(client, automations)
    else:
        crash_detection.remove_automations(client, automations)


def database_note(client: SyncPrefectClient, profile: Profile) -> str:
    """What many shards need of the database of the Prefect server; "" where nothing is to be said."""
    most = max((entry.shards for entry in profile.sync.registries), default=1)
    driver = _database_driver(client) if most >= MANY_RUNS else "-"
    if driver and not driver.startswith("sqlite"):
        return ""
    uses = "the Prefect server uses SQLite" if driver else "if the Prefect server uses SQLite"
    return (
        f"shards: {most:,}: {uses}, it answers 503 to some requests of {MANY_RUNS} runs that begin at "
        "once; give it PostgreSQL (PREFECT_SERVER_DATABASE_CONNECTION_URL)"
    )


def _database_driver(client: SyncPrefectClient) -> str:
    """Empty where the server does not tell: it hides the address of its database, and the driver is a setting
    of its own. Prefect Cloud has no such route, and no SQLite."""
    try:
        settings = client.request("GET", "/admin/settings").json()
    except httpx.HTTPStatusError:
        return "-"
    return str(settings.get("server", {}).get("database", {}).get("driver") or "")


def _lines(applied: Applied, definition: Definition) -> Iterator[str]:
    rhythm = str(applied.timing) if applied.timing else "when asked"
    where = f" on work pool {applied.work_pool}" if applied.work_pool else ""
    paused = "; paused in Prefect, and left so" if applied.paused else ""
    yield f"deployed  mirror_registry/{applied.name}, {rhythm}{where}{paused}"
    if definition.work_queue and not applied.work_pool:
        yield (
            f"note      mirror_registry/{applied.name}: workQueue {definition.work_queue!r} has no effect "
            "without a work pool; add --work-pool POOL"
        )
