"""From a profile to the definitions of its deployments: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.entries import part_name
from flows.orchestration.deployments import Definition
from flows.orchestration.work_pools.crash_detection import with_heartbeat
from flows.reporting.entry_words import describe_entry
from profiles.values.shard import Shard

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry


def definitions(profile: Profile, path: Path) -> tuple[Definition, ...]:
    """One for each registry entry, or for each of its shards; none when `sync.enable` is false.

    `path` is the profile's.
    """
    if not profile.sync.enable:
        return ()
    return tuple(
        _definition(entry, shard, path)
        for entry in profile.sync.registries
        for shard in Shard.all_of(entry.shards)
    )


def _definition(entry: RegistryEntry, shard: Shard | None, path: Path) -> Definition:
    parameters = {"profile": str(path), "registry": entry.name}
    return Definition(
        name=part_name(entry.name, shard),
        description=describe_entry(entry, shard),
        timing=entry.timing,
        parameters=parameters | ({"shard": str(shard)} if shard else {}),
        tags=entry.deployment.tags,
        job_variables=with_heartbeat(entry.deployment.job_variables),
        work_queue=entry.deployment.work_queue,
    )
