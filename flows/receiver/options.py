"""What the receiver of misses is started with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final

BACKLOG: Final = 4096  # calls for misses that wait to be taken by the receiver
PUSHES: Final = "/pushes/"  # the path at which notifications are taken


@dataclass(frozen=True, slots=True)
class ReceiverOptions:
    """`listener` and `notifications` are descriptors of listening sockets (-1: none).

    `call` is the file that the server reads too; "": the secret is the profile's. `url`: where registry
    servers reach the receiver ("": that of its own `up` only); `registered`: they find that in the store.
    `shown`: its work appears in Prefect.
    """

    profile: str
    listener: int
    call: str
    notifications: int = -1
    url: str = ""
    registered: bool = True
    shown: bool = True

    @property
    def name(self) -> str:
        """What distinguishes it from the other receivers of a store; the same when it starts again."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:12] if self.url else "up"

    def arguments(self) -> list[str]:
        return ["-m", "flows.receiver.main", json.dumps(asdict(self))]
