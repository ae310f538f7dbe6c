"""`deploy`: the deployments of a profile on a Prefect server, and a work pool, that exist already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flows.entries import open_store
from flows.orchestration.deployment_definitions import definitions
from flows.orchestration.deployments import DeploymentError, apply_definitions
from flows.settings import client_environment, own_server_wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.loader import LoadedProfile


def deploy_profile(loaded: LoadedProfile, work_pool: str | None) -> Iterator[str]:
    """Apply all deployments of the profile and remove those that it no longer names; one line for each.

    The workers need this package, the profile at the same path, and the store's file system. Raises
    `DeploymentError`.
    """
    if own_server_wanted(os.environ):
        raise DeploymentError(
            "deploy needs a Prefect server that runs already: set PREFECT_API_URL to its address, e.g. "
            "http://prefect.example:4200/api; without one, `mirrorflow up` brings its own"
        )
    store = open_store(loaded.profile)
    api_url = os.environ["PREFECT_API_URL"]
    os.environ.update(client_environment(os.environ, api_url=api_url, store_root=store.root, silent=True))
    from prefect.client.orchestration import get_client

    path = loaded.path.absolute()
    with get_client(sync_client=True) as client:
        changes = apply_definitions(
            client, definitions(loaded.profile, path), store_uuid=store.uuid, work_pool=work_pool
        )
    for definition in definitions(loaded.profile, path):
        rhythm = str(definition.timing) if definition.timing else "when asked"
        where = f" on work pool {work_pool}" if work_pool else ""
        yield f"deployed  mirror_registry/{definition.name}, {rhythm}{where}"
    for name in changes.removed:
        yield f"removed   mirror_registry/{name}"
