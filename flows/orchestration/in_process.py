"""The flow in the process of the command that waits for it. Imports Prefect: import it where a flow runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings

from flows.mirror_registry import mirror_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from prefect.client.schemas.objects import State

    from profiles.values.shard import Shard


def run_in_process(
    profile: Path, registry: str, only: Sequence[str] = (), shard: Shard | None = None
) -> State[Any]:
    """Mirror one registry entry, or a shard of it; the state that the run ended in."""
    part = str(shard) if shard else None
    with without_heartbeat():
        state: State[Any] = mirror_registry(
            str(profile), registry, list(only) or None, part, return_state=True
        )
    return state


@contextmanager
def without_heartbeat() -> Iterator[None]:
    """A run ends without the wait for its heartbeat, which sleeps a second at a time.

    It tells others of a run that died without a word; here, the one who waits sees that. Not a variable
    of the environment, because Prefect cannot read "none" from one. What a user has set wins.
    """
    if "heartbeat_frequency" in get_current_settings().flows.model_fields_set:
        yield
        return
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
