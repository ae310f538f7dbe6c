"""Automations of the Prefect server that mark runs of workers as crashed whose host has died.

Nobody reports the end of such a run. It would stay Running, and would hold the only slot of its deployment
for five minutes, in which each poll is refused. The runs of deployments send a heartbeat; the server marks
a run as crashed that has missed two of them, and gives its slot back.

An automation is found again by its name, which has the id of the store. What users change of its state in the
UI (switched off) stays.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx

from flows.orchestration.deployments import store_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

    from flows.orchestration.deployments import Definition

HEARTBEAT_VARIABLE: Final = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
HEARTBEAT_SECONDS: Final = 30
"""Between two heartbeats of a run; Prefect allows no less."""
MISSED_HEARTBEATS: Final = 2
_DELAY_SECONDS: Final = 15  # that a heartbeat may be late: a busy process, a busy server
_START_HOURS: Final = 1  # from Pending to Running: a container has to be made and its image fetched
_FINAL: Final = ("Completed", "Failed", "Cancelled", "Crashed")
_ENDED: Final = frozenset(f"prefect.flow-run.{name}" for name in _FINAL)
_HEARTBEAT: Final = "prefect.flow-run.heartbeat"
_RUNNING: Final = "prefect.flow-run.Running"
_PENDING: Final = "prefect.flow-run.Pending"


def with_heartbeat(job_variables: Mapping[str, Any]) -> dict[str, Any]:
    """Job variables that have runs send heartbeats, as often as the automation expects them.

    What the profile says of the variable of the environment stays.
    """
    env = job_variables.get("env")
    return {**job_variables, "env": {HEARTBEAT_VARIABLE: str(HEARTBEAT_SECONDS), **(env or {})}}


def silence_allowed(definitions: Iterable[Definition]) -> timedelta:
    """How long a run of these deployments may be silent: two heartbeats and some delay."""
    slowest = max((_heartbeat_of(each) for each in definitions), default=HEARTBEAT_SECONDS)
    return timedelta(seconds=MISSED_HEARTBEATS * slowest + _DELAY_SECONDS)


def _heartbeat_of(definition: Definition) -> int:
    env = definition.job_variables.get("env") or {}
    try:
        return max(HEARTBEAT_SECONDS, int(env.get(HEARTBEAT_VARIABLE, HEARTBEAT_SECONDS)))
    except (TypeError, ValueError):  # the run itself says what is wrong with it
        return HEARTBEAT_SECONDS


def automations(store_uuid: str, silence: timedelta) -> tuple[AutomationCore, ...]:
    """Of a store: for runs that fall silent, and for runs that never begin."""
    return (
        _crash_after(
            f"mirrorflow {store_uuid}: lost runs",
            "Marks a run as crashed that has missed two heartbeats: its host has died, or cannot reach the "
            "Prefect server. The next poll begins as planned, and goes on where that run has stopped.",
            store_uuid,
            after={_RUNNING, _HEARTBEAT},  # a host may die before the first heartbeat
            expect={_HEARTBEAT, *_ENDED},
            within=silence,
            message=f"no heartbeat for {silence.seconds:,} s: the host of the run died, or lost the network",
        ),
        _crash_after(
            f"mirrorflow {store_uuid}: runs that never began",
            "Marks a run as crashed that a worker took an hour ago and that has not begun.",
            store_uuid,
            after={_PENDING},
            expect={_RUNNING, _HEARTBEAT, *_ENDED},
            within=timedelta(hours=_START_HOURS),
            message="a worker took this run an hour ago, and it has not begun: did its host die?",
        ),
    )


def _crash_after(
    name: str,
    description: str,
    store_uuid: str,
    *,
    after: set[str],
    expect: set[str],
    within: timedelta,
    message: str,
) -> AutomationCore:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            # Runs inherit the tags of their deployment, and events name the tags of their run.
            match_related={
                "prefect.resource.id": f"prefect.tag.{store_tag(store_uuid)}",
                "prefect.resource.role": "tag",
            },
            after=after,
            expect=expect,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        # Not forced: a run that has ended after all stays as it ended.
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )


def apply_automations(client: SyncPrefectClient, wanted: Iterable[AutomationCore]) -> None:
    """Make the server hold these. Raises what Prefect's client raises."""
    for automation in wanted:
        found = client.read_automations_by_name(automation.name)
        if not found:
            client.create_automation(automation)
            continue
        changed = automation.model_copy(update={"enabled": found[0].enabled})
        if _content(found[0]) != _content(changed):
            client.update_automation(found[0].id, changed)


def remove_automations(client: SyncPrefectClient, unwanted: Iterable[AutomationCore]) -> None:
    for automation in unwanted:
        for found in client.read_automations_by_name(automation.name):
            client.delete_automation(found.id)


def _content(automation: AutomationCore) -> dict[str, Any]:
    """Without what the server adds: ids."""
    found = automation.model_dump(mode="json", include={"description", "enabled"})
    trigger: Any = automation.trigger
    found["trigger"] = {
        "after": sorted(trigger.after),
        "expect": sorted(trigger.expect),
        "within": trigger.within.total_seconds(),
    }
    found["actions"] = [each.model_dump(mode="json", exclude={"id"}) for each in automation.actions]
    return found


def triggers_note(client: SyncPrefectClient) -> str:
    """Why the automations would have no effect; "" where they have one, or the server does not tell."""
    try:
        services = client.request("GET", "/admin/settings").json()["server"]["services"]
        enabled = services["triggers"]["enabled"]
    except (httpx.HTTPStatusError, KeyError, TypeError):
        return ""  # Prefect Cloud has no such route
    if enabled:
        return ""
    return (
        "the triggers of the Prefect server are switched off: a run whose host dies stays Running, and "
        "refuses polls for five minutes; start the server without "
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED=false"
    )
