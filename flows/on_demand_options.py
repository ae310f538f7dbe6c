"""What the receiver of misses is started with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """`listener` is the descriptor of a listening socket, `call` the file that the server reads too."""

    profile: str
    listener: int
    call: str

    def arguments(self) -> list[str]:
        return ["-m", "flows.on_demand", json.dumps(asdict(self))]
