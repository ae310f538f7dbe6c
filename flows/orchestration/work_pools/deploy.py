"""`deploy`: the deployments of a profile on a Prefect server, and a work pool, that exist already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import httpx

from flows.entries import open_store
from flows.orchestration.deployment_definitions import definitions
from flows.orchestration.deployments import DeploymentError, apply_definitions
from flows.orchestration.user_server import named_prefect_errors, require_server
from flows.orchestration.work_pools import crash_detection
from flows.settings import client_environment, own_server_wanted, prefect_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefect.client.orchestration import SyncPrefectClient

    from flows.orchestration.deployments import Applied, Definition
    from profiles.loader import LoadedProfile
    from profiles.model.profile import Profile

_MANY_SHARDS: Final = 4  # so many runs that begin at once were seen to be too many for SQLite


def deploy_profile(loaded: LoadedProfile, work_pool: str | None) -> Iterator[str]:
    """Apply all deployments of the profile and remove those that it no longer names; one line for each.

    The workers need this package, the profile at the same path, and the store's file system. Raises
    `DeploymentError`, and `PrefectServerError`.
    """
    if own_server_wanted(os.environ):
        raise DeploymentError(
            "deploy needs a Prefect server that runs already: set PREFECT_API_URL to its address, e.g. "
            "http://prefect.example:4200/api; without one, `mirrorflow up` brings its own"
        )
    api_url = os.environ["PREFECT_API_URL"]
    require_server(api_url)
    store = open_store(loaded.profile)
    home = prefect_home(loaded.profile.storage)
    os.environ.update(client_environment(os.environ, api_url=api_url, home=home, silent=True))
    from prefect.client.orchestration import get_client

    wanted = definitions(loaded.profile, loaded.path.absolute())
    with named_prefect_errors(api_url), get_client(sync_client=True) as client:
        if work_pool is not None:
            _require_work_pool(client, work_pool)
        changes = apply_definitions(client, wanted, store_uuid=store.uuid, home=home, work_pool=work_pool)
        _apply_automations(client, store.uuid, wanted)
        notes = (database_note(client, loaded.profile), crash_detection.triggers_note(client))
    for applied, definition in zip(changes.applied, wanted, strict=True):
        yield from _lines(applied, definition)
    for name in changes.removed:
        yield f"removed   mirror_registry/{name}"
    yield from (f"note      {note}" for note in notes if note)


def _apply_automations(client: SyncPrefectClient, store_uuid: str, wanted: Sequence[Definition]) -> None:
    automations = crash_detection.automations(store_uuid, crash_detection.silence_allowed(wanted))
    if wanted:
        crash_detection.apply_automations(client, automations)
    else:
        crash_detection.remove_automations(client, automations)


def database_note(client: SyncPrefectClient, profile: Profile) -> str:
    """What many shards need of the database of the Prefect server; "" where nothing is to be said."""
    most = max((entry.shards for entry in profile.sync.registries), default=1)
    driver = _database_driver(client) if most >= _MANY_SHARDS else "-"
    if driver and not driver.startswith("sqlite"):
        return ""
    uses = "the Prefect server uses SQLite" if driver else "if the Prefect server uses SQLite"
    return (
        f"shards: {most:,}: {uses}, it answers 503 to some requests of {_MANY_SHARDS} runs that begin at "
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


def _require_work_pool(client: SyncPrefectClient, name: str) -> None:
    """Prefect answers an unknown pool with a bare 404, and in an update with an error of its own."""
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        pools = sorted(pool.name for pool in client.read_work_pools())
        raise DeploymentError(
            f"the Prefect server has no work pool {name!r}; it has {', '.join(pools) or 'none'}: name one of "
            f"them, or make it with `prefect work-pool create --type process {name}`"
        ) from None


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
