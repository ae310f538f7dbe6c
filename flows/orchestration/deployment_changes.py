"""What a profile changes of a deployment that exists already: pure functions.

Users set things on a deployment, in the UI or with Prefect's commands: they pause it, add schedules, tags
and job variables, raise its concurrency limit, move it to another work queue. All that stays. Only what
the profile says is changed, and only where it differs, because each update makes Prefect delete the runs
that it has planned. What the profile said the last time (`LastApplied`) tells a tag that was dropped from
the profile from one that a user added.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from profiles.values.poll_timing import PollSchedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.client.schemas.schedules import SCHEDULE_TYPES

    from profiles.values.poll_timing import PollTiming

SCHEDULE_SLUG = "mirrorflow"
"""Tells the schedule of the profile from those that users add."""
PAUSED_TAG = "mirrorflow-paused"
"""On a deployment that `up` has paused at its stop. Without it the pause is a user's, and stays."""
_TITLES = {
    "profile": "Profile",
    "registry": "Registry entry",
    "only": "Only these images (none: all)",
    "shard": "Shard of the registry entry",
}
_FIXED = ("registry", "shard")
_SAME_MOMENT = 1.0  # seconds; Prefect keeps microseconds of an anchor, and a user does not see them


@dataclass(frozen=True, slots=True)
class LastApplied:
    """The tags and job variables of the profile when the deployment was last applied."""

    tags: tuple[str, ...] = ()
    job_variables: Mapping[str, Any] = field(default_factory=dict)


def is_paused_by_user(live: DeploymentResponse) -> bool:
    return live.paused and PAUSED_TAG not in live.tags


def merge_tags(live: Iterable[str], last: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """The tags there are, without those that the profile has dropped, with those that it has."""
    wanted = list(wanted)
    dropped = {*last, PAUSED_TAG} - set(wanted)
    kept = [tag for tag in live if tag not in dropped]
    return kept + [tag for tag in wanted if tag not in kept]


def merge_variables(
    live: Mapping[str, Any], last: Mapping[str, Any], wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """The same for job variables, and for the variables in a section (`env`)."""
    merged = {name: value for name, value in live.items() if name in wanted or name not in last}
    for name in live.keys() & last.keys() - wanted.keys():
        if (rest := _without(live[name], last[name])) not in (None, {}):
            merged[name] = rest
    for name, value in wanted.items():
        merged[name] = (
            merge_variables(_section(live, name), _section(last, name), value)
            if isinstance(value, dict)
            else value
        )
    return merged


def _section(variables: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = variables.get(name)
    return found if isinstance(found, dict) else {}


def _without(live: Any, last: Any) -> Any:
    """What is left of a value that the profile no longer has: what users have added to it, or made of it."""
    if isinstance(live, dict) and isinstance(last, dict):
        return merge_variables(live, last, {})
    return None if live == last else live


def form_of(schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the flow as the UI asks for them, for one deployment.

    Prefect takes the names of Python for titles. What a deployment is for cannot be chosen otherwise.
    """
    form = copy.deepcopy(dict(schema))
    for name, asked in form.get("properties", {}).items():
        asked["title"] = _TITLES.get(name, asked.get("title", name))
        if name in _FIXED and name in parameters:
            asked |= {"enum": [parameters[name]], "default": parameters[name]}
    return form


def changed_fields(live: DeploymentResponse, wanted: Mapping[str, Any], last: LastApplied) -> dict[str, Any]:
    """The fields of an update, by Prefect's names; empty when the deployment is as the profile has it."""
    known = wanted["parameter_openapi_schema"].get("properties", {})
    parameters = {name: value for name, value in live.parameters.items() if name in known}
    fields = {
        **{name: wanted[name] for name in ("description", "entrypoint", "parameter_openapi_schema")},
        "parameters": parameters | _changed_parameters(live, wanted),
        "tags": merge_tags(live.tags, last.tags, wanted["tags"]),
        "job_variables": merge_variables(live.job_variables, last.job_variables, wanted["job_variables"]),
    }
    if live.paused and not is_paused_by_user(live):
        fields["paused"] = False
    if wanted["work_pool_name"] is not None and (live.pull_steps or wanted["pull_steps"]):
        fields["pull_steps"] = wanted["pull_steps"]
    changed = {name: value for name, value in fields.items() if value != getattr(live, name)}
    return changed | _changed_queue(live, wanted)


def _changed_parameters(live: DeploymentResponse, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`up` has no say in where the workers of a pool find the profile: `deploy` has told them."""
    by_up = live.work_pool_name is not None and wanted["work_pool_name"] is None
    kept = {"profile"} & live.parameters.keys() if by_up else set()
    return {name: value for name, value in wanted["parameters"].items() if name not in kept}


def _changed_queue(live: DeploymentResponse, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The pool that `deploy` names and the queue that the profile names. Prefect takes the pool's default
    queue for an update without a queue, so one that names the same pool would undo a user's choice."""
    pool = wanted["work_pool_name"] or live.work_pool_name
    queue = wanted["work_queue_name"]
    if pool is None or (pool == live.work_pool_name and queue in (None, live.work_queue_name)):
        return {}
    return {"work_pool_name": pool} | ({"work_queue_name": queue} if queue else {})


def our_schedule(live: Iterable[DeploymentSchedule], timing: PollTiming | None) -> DeploymentSchedule | None:
    """The schedule of the profile. One without a slug that runs at the same times is ours as well: earlier
    versions wrote none."""
    schedules = list(live)
    ours = [each for each in schedules if each.slug == SCHEDULE_SLUG]
    unnamed = [each for each in schedules if each.slug is None and timing and runs_like(each, timing)]
    return next(iter([*ours, *unnamed]), None)


def runs_like(live: DeploymentSchedule, timing: PollTiming) -> bool:
    """Whether it has the interval, or the cron expression and time zone. Not: from which moment on."""
    schedule: Any = live.schedule
    if isinstance(timing, PollSchedule):
        found = getattr(schedule, "cron", None), getattr(schedule, "timezone", None) or "UTC"
        return bool(found == (timing.cron, timing.zone))
    return bool(getattr(schedule, "interval", None) == timedelta(seconds=timing.seconds))


def has_rhythm(live: DeploymentSchedule, timing: PollTiming, anchor: datetime) -> bool:
    """Whether its runs are due at the same moments as with this anchor."""
    if not runs_like(live, timing):
        return False
    if isinstance(timing, PollSchedule):
        return True
    found: Any = live.schedule
    offset = (anchor.timestamp() - found.anchor_date.timestamp()) % timing.seconds
    return bool(min(offset, timing.seconds - offset) < _SAME_MOMENT)


def live_anchor(live: DeploymentSchedule | None, timing: PollTiming | None) -> datetime | None:
    """The moment that an unchanged interval counts from."""
    if live is None or timing is None or not runs_like(live, timing):
        return None
    found: datetime | None = getattr(live.schedule, "anchor_date", None)
    return plain_time(found) if found else None


def plain_time(moment: datetime) -> datetime:
    """Prefect's own kind of datetime cannot be divided by a timedelta."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def prefect_schedule(timing: PollTiming, anchor: datetime) -> SCHEDULE_TYPES:
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    if isinstance(timing, PollSchedule):
        return CronSchedule(cron=timing.cron, timezone=timing.zone)
    return IntervalSchedule(interval=timedelta(seconds=timing.seconds), anchor_date=anchor, timezone="UTC")
