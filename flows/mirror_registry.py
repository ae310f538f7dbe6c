"""The flow for one registry entry:

    list_catalog -> filter_tags -> verify_signature -> convert_manifest -> copy_blob -> publish_image

What is done when is in tasks/engines/dag.py, what a step does in tasks/pipeline.py. Prefect may load this
file by its path.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.entries import part_name
from flows.lifecycle.engine_process import prepare_engine_process
from flows.lifecycle.profile_location import profile_file
from flows.mirroring import mirror_entry
from flows.reporting.artifacts import RunArtifacts, current_run_name, final_state
from flows.reporting.notify.after_run import tell_after_run
from profiles.values.shard import SHARD_PATTERN, Shard
from registry_server.oci.errors import MirrorflowError
from tasks.engines.prefect_tasks import prefect_engine

log = logging.getLogger("mirrorflow")

# A Prefect retry sleeps in the thread of its task, so there are many threads; what really bounds the work
# is the pool of transfers (`reqConcurrent`).
_RUNNER: Any = ThreadPoolTaskRunner(max_workers=128)  # Any: its type parameter does not fit `flow`


@flow(
    name="mirror_registry",
    flow_run_name=current_run_name,
    task_runner=_RUNNER,
    persist_result=False,
)
def mirror_registry(
    profile: str,
    registry: str,
    only: list[str] | None = None,
    shard: Annotated[str, Field(pattern=SHARD_PATTERN, examples=["2/4"])] | None = None,
) -> State[None]:
    """Bring everything that a profile wants of one registry into the store.

    Args:
        profile: Path of the profile on the host of the run, or `block:NAME` for a block of this server.
        registry: Name of the registry entry in the profile.
        only: Images or repositories to look at, e.g. `library/nginx:1.25`; all if left out.
        shard: Part of the repositories, e.g. `2/4` for the second of four; all of them if left out.
    """
    prepare_engine_process()
    try:
        part = Shard.parse(shard) if shard else None
        display = RunArtifacts(part_name(registry, part))
        engine = partial(prefect_engine, key=display.run_id)
        with profile_file(profile) as path:
            report = mirror_entry(path, registry, only or [], engine=engine, display=display, shard=part)
            tell_after_run(path)
    except MirrorflowError as error:
        log.error("%s", error)  # noqa: TRY400 - a message for people; nothing is gained from the traceback
        return Failed(message=str(error))
    return final_state(report)
