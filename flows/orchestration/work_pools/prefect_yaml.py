"""Deployments as files, for those who keep them in git: `prefect deploy --all` registers what they say.

Two files: `prefect.yaml` with a deployment for each registry entry, or shard of it, and beside it the
automations that end the runs of dead hosts (`prefect automation create --from-file`).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import yaml

from flows.orchestration.deployment_changes import SCHEDULE_SLUG
from flows.orchestration.deployments import ENTRYPOINT, TAG, DeploymentError, all_variables, store_tag
from flows.orchestration.work_pools import crash_detection
from profiles.values.poll_timing import PollSchedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from prefect.events.schemas.automations import AutomationCore

    from flows.orchestration.deployments import Definition
    from profiles.values.poll_timing import PollTiming

_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)
_DEPLOYMENTS: Final = """\
# Written by `mirrorflow deploy --write`: write it again after a change of the profile. Register it with
#   prefect --no-prompt deploy --all --prefect-file {name}
# Deployments of entries that the profile no longer has are not removed by that.
"""
_AUTOMATIONS: Final = """\
# Written by `mirrorflow deploy --write`. They mark runs as crashed whose host has died. Register them once:
#   prefect automation create --from-file {name}
"""


def write_files(
    path: Path, definitions: Sequence[Definition], *, store_uuid: str, work_pool: str
) -> Iterator[str]:
    """Write both files; a line for each. Raises `DeploymentError`."""
    beside = path.with_name(f"{path.stem}-automations.yaml")
    silence = crash_detection.silence_allowed(definitions)
    automations = crash_detection.automations(store_uuid, silence)
    documents: dict[Path, str] = {
        path: _DEPLOYMENTS.format(name=path.name)
        + _dump({"deployments": [_deployment(each, store_uuid, work_pool) for each in definitions]}),
        beside: _AUTOMATIONS.format(name=beside.name)
        + _dump({"automations": [_automation(each) for each in automations]}),
    }
    for file, text in documents.items():
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DeploymentError(f"{file}: cannot be written: {error.strerror}") from error
        yield f"written   {file}"


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _automation(automation: AutomationCore) -> dict[str, Any]:
    """Sets in order: the same file each time."""
    found = automation.model_dump(mode="json", exclude_unset=True)
    trigger = found["trigger"]
    trigger |= {name: sorted(value) for name, value in trigger.items() if isinstance(value, list)}
    return found


def _deployment(definition: Definition, store_uuid: str, work_pool: str) -> dict[str, Any]:
    """By the names of Prefect's file. Null in `pull` would make Prefect copy a folder of this host."""
    pool: dict[str, Any] = {"name": work_pool, "job_variables": all_variables(definition)}
    if definition.work_queue:
        pool["work_queue_name"] = definition.work_queue
    return {
        "name": definition.name,
        # Prefect fills in what stands between double braces.
        "description": definition.description.replace("{{", "{ {"),
        "entrypoint": ENTRYPOINT,
        "parameters": dict(definition.parameters),
        "enforce_parameter_schema": True,
        "tags": [TAG, store_tag(store_uuid), *definition.tags],
        "schedules": [_schedule(definition)] if definition.timing else [],
        "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
        "work_pool": pool,
        "pull": [dict(step) for step in definition.pull_steps],
    }


def _schedule(definition: Definition) -> dict[str, Any]:
    timing = definition.timing
    if isinstance(timing, PollSchedule):
        return {"cron": timing.cron, "timezone": timing.zone, "slug": SCHEDULE_SLUG, "active": True}
    assert timing is not None, "checked by the caller"
    return {
        "interval": timing.seconds,
        "anchor_date": _anchor(definition.name, timing).isoformat(),
        "timezone": "UTC",
        "slug": SCHEDULE_SLUG,
        "active": True,
    }


def _anchor(name: str, timing: PollTiming) -> datetime:
    """The same in each file, and another one for each deployment: they need not all begin at once."""
    assert not isinstance(timing, PollSchedule), "it has none"
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return _EPOCH + timedelta(seconds=number % max(1, int(timing.seconds)))
