"""Which blobs arrive in a store now, by whatever process: polls, misses, pushes."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flows.reporting.transfer_rate import TransferRate
from registry_server.human_units import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A file that has not grown for so long is what an interrupted transfer left, for the next one to resume.
_ACTIVE_SECONDS: Final = 5.0


@dataclass(slots=True)
class ArrivingBlobs:
    """Looks at the folders of incoming blobs; a process of its own needs no other way to know."""

    folders: Sequence[str]
    _sizes: dict[str, int] = field(default_factory=dict)
    _received: int = 0
    _rate: TransferRate = field(default_factory=TransferRate)

    def look(self, now: float) -> str:
        """E.g. `3 blobs, 120.4 MB so far, 45.0 MB/s`; "" when nothing arrives. `now` in Unix seconds."""
        found = {entry.path: status for entry, status in self._files()}
        sizes = {path: status.st_size for path, status in found.items()}
        self._received += sum(max(0, size - self._sizes.get(path, 0)) for path, size in sizes.items())
        self._sizes = sizes
        self._rate.add(self._received, now)
        active = [each.st_size for each in found.values() if each.st_mtime >= now - _ACTIVE_SECONDS]
        if not active:
            return ""
        blobs = f"{len(active):,} blob{'s' * (len(active) != 1)}, {human_bytes(sum(active))} so far"
        return ", ".join(filter(None, (blobs, self._rate.words(0))))

    def _files(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        for folder in self.folders:
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # it is whole, and in the pool
                        yield entry, entry.stat()
