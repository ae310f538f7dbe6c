"""What the steps say while they run: bytes that arrive, and remarks for the report. Thread-safe.

Everything else that a step finds out is in the value that it returns.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from registry_server.oci.errors import MirrorflowError


@dataclass
class Live:
    """Of one run in one process. `moved` has the bytes that came over the network so far, by digest."""

    bytes_moved: int = 0
    _remarks: dict[str, None] = field(default_factory=dict)  # in order, each once
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def remark(self, text: str) -> None:
        """What the reader of the report should know, and what is no failure: `Report.notes`. One sentence."""
        with self._lock:
            self._remarks.setdefault(text)

    def take_remarks(self) -> tuple[str, ...]:
        """Those since the last call."""
        with self._lock:
            taken, self._remarks = tuple(self._remarks), {}
            return taken

    def moved(self, digest: Digest, count: int) -> None:  # noqa: ARG002 - subclasses need it
        """`count` more bytes of a blob arrived."""
        with self._lock:
            self.bytes_moved += count

    def copied(self, digest: Digest) -> None:
        """The blob is in the store."""

    def copy_failed(self, digest: Digest, error: MirrorflowError) -> None:
        """The blob did not arrive."""
