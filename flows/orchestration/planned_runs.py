"""Names for the runs that Prefect plans from a schedule.

Its scheduler gives each a random name of two words, and the name that the flow asks for only comes when the
run starts. The list of upcoming runs in the UI would say "amber-fox" until then.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from flows.entries import run_name
from flows.orchestration.flow_run_query import find_flow_runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

_RANDOM_NAME: Final = re.compile(r"[a-z]+-[a-z]+")


def name_planned_runs(client: SyncPrefectClient, registries: Mapping[UUID, str]) -> int:
    """Name the planned runs of these deployments after their registry entries; how many there were.

    A run that a user has asked for, or has named, keeps its name.
    """
    named = 0
    for run in find_flow_runs(client, list(registries), types=["SCHEDULED"]):
        name = run_name(registries[run.deployment_id]) if run.deployment_id else run.name
        if run.auto_scheduled and run.name != name and _RANDOM_NAME.fullmatch(run.name):
            client.update_flow_run(run.id, name=name)
            named += 1
    return named
