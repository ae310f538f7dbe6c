"""Changes as events of a Prefect server, for its automations.

`python -m flows.reporting.notify.prefect_events` is a process of its own, because Prefect reads its settings
from the environment when it is imported, and `up` does without it. It takes the message and the id of the
store as JSON on its standard input.

Prefect's `emit_event` leaves an event in a queue of the process, and says nothing when it does not arrive.
The client below it confirms each one.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from flows.reporting.notify.delivery import NotDelivered
from flows.reporting.notify.told import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.reporting.notify.told import Change

_START_SECONDS: Final = 20.0  # that the import of Prefect may take on a busy machine


def emit(message: Message, source: str, *, timeout: float, environment: Mapping[str, str]) -> None:
    """To the server of PREFECT_API_URL in `environment`. Raises `NotDelivered`."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps({"message": message.to_json(), "source": source}),
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=timeout + _START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotDelivered(f"the Prefect server did not take events within {timeout:g} s") from None
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}"
        raise NotDelivered(f"the Prefect server did not take events: {said}")


def event_of(change: Change, source: str, name: UUID) -> dict[str, Any]:
    """The arguments of an event. The resource is the image, or the registry entry. `name`: its id."""
    condition = change.condition
    kind, subject = ("image", condition.image) if condition.image else ("registry", condition.registry)
    resource = {
        "prefect.resource.id": f"mirrorflow.{kind}.{subject}",
        "prefect.resource.name": subject,
        "mirrorflow.registry": condition.registry,
        "mirrorflow.digest": condition.digest,
        "mirrorflow.mirror": source,
    }
    return {
        "id": name,
        "event": f"mirrorflow.{condition.event}.{change.phase}",
        "occurred": datetime.fromtimestamp(change.time, UTC),
        "resource": {key: value for key, value in resource.items() if value},
        "related": _related(condition.registry, condition.run),
        "payload": {"reason": condition.text, "since": change.since, "was": condition.was},
    }


def _related(registry: str, run: str) -> list[dict[str, str]]:
    """The registry entry, and the flow run where the run was one (others have ids of their own)."""
    found = [{"prefect.resource.id": f"mirrorflow.registry.{registry}", "prefect.resource.role": "registry"}]
    if run:
        found += [{"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}]
    return found


async def _emit_all(message: Message, source: str) -> None:
    from prefect.events.clients import get_events_client
    from prefect.events.schemas.events import Event

    async with get_events_client(reconnection_attempts=1, checkpoint_every=1) as client:
        for number, change in enumerate(message.changes):
            # The same ids when a message is sent again.
            name = uuid5(NAMESPACE_URL, f"{message.id}/{number}")
            await client.emit(Event(**event_of(change, source, name)))


def main() -> int:
    """0 when the server has confirmed every event; 1 with a line on stderr."""
    found = json.load(sys.stdin)
    try:
        asyncio.run(_emit_all(Message.from_json(found["message"]), str(found["source"])))
    except Exception as error:  # noqa: BLE001 - whatever Prefect raises: the caller tries again
        sys.stderr.write(f"{str(error) or type(error).__name__}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
