"""Manifests that a run has read and has not stored."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from tasks.upstream.registry import Fetched

_LIMIT: Final = 32 * 1024 * 1024  # bytes


@dataclass(slots=True)
class RecentManifests:
    """What `select` has looked at, so that copying it later in the run costs no second GET.

    Bounded by bytes: what was forgotten is asked for again. Keys hold the upstream repository.
    """

    limit: int = _LIMIT
    _held: OrderedDict[tuple[str, Digest], Fetched] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, source: str, digest: Digest) -> Fetched | None:
        with self._lock:
            return self._held.get((source, digest))

    def keep(self, source: str, fetched: Fetched) -> None:
        with self._lock:
            if (source, fetched.digest) in self._held:
                return
            self._held[source, fetched.digest] = fetched
            self._bytes += len(fetched.body)
            while self._bytes > self.limit:
                self._bytes -= len(self._held.popitem(last=False)[1].body)
