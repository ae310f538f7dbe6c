"""What a profile says of garbage collection; apart from it, because who only reads profiles needs no more."""

from __future__ import annotations

from dataclasses import dataclass, field

from registry_server.store.retention import Retention


@dataclass(frozen=True, slots=True)
class GcOptions:
    """Of one storage root. `delay`: how long what no manifest names is kept; `settle`: how long the look
    after the sweep waits for writers whose marker is on its way (seconds)."""

    enabled: bool = True
    delay: float = 3600.0
    settle: float = 2.0
    retention: Retention = field(default_factory=Retention)
