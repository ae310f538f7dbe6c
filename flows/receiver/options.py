"""What the receiver of misses is started with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

BACKLOG: Final = 4096  # calls for misses that wait to be taken by the receiver
PUSHES: Final = "/pushes/"  # the path at which notifications are taken


@dataclass(frozen=True, slots=True)
class ReceiverOptions:
    """`listener` and `notifications` are descriptors of listening sockets (-1: none), `call` is the file that
    the server reads too."""

    profile: str
    listener: int
    call: str
    notifications: int = -1

    def arguments(self) -> list[str]:
        return ["-m", "flows.receiver.main", json.dumps(asdict(self))]
