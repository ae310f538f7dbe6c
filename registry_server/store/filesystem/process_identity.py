"""Which process holds a lock: its pid says it on its own host only, and a store may be shared by hosts.

A host is known by its name and its boot id: containers on one machine have the boot id in common and their
pids and their 127.0.0.1 apart.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """`boot` is the boot id of the host's kernel; "" where it is not known."""

    pid: int
    host: str
    boot: str = ""

    @classmethod
    def current(cls) -> Self:
        return cls(os.getpid(), socket.gethostname(), _boot_id())

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Without a host, an earlier version wrote it here. Raises LookupError, TypeError or ValueError."""
        host = body.get("host") or socket.gethostname()
        return cls(int(body["pid"]), str(host), str(body.get("boot", "")))

    def to_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "host": self.host, "boot": self.boot}

    @property
    def is_on_this_host(self) -> bool:
        """Whether its pid and its 127.0.0.1 mean here what they mean there."""
        here = self.current()
        return self.host == here.host and (not self.boot or not here.boot or self.boot == here.boot)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
