"""Where a benchmark works, and what it may use there."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from benchmarks.harness.peers.servers import MissingPeer

if TYPE_CHECKING:
    from types import TracebackType

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of ours is made in it
_ROOM = 20 * 2**30  # bytes that a full run wants at once, at most
_PIECE: Final = bytes(1024 * 1024)


@dataclass(slots=True)
class Place:
    """A folder that is gone at the end. `small`: everything is tiny, and no figure means anything."""

    small: bool
    root: Path
    _prefect: str = ""
    _held: ExitStack = field(default_factory=ExitStack)
    _number: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def fresh(self, name: str) -> Path:
        """A new, empty folder."""
        self._number += 1
        path = self.root / f"{self._number:03}-{name}"
        path.mkdir(parents=True)
        return path

    def fresh_on_disk(self, name: str) -> Path:
        """The same on the disk. Files in memory cannot be read without waiting (RWF_NOWAIT), so that our
        server would take a thread for each, which it does for no file that is in the cache of a disk."""
        if self.small:
            return self.fresh(name)
        folder = tempfile.TemporaryDirectory(prefix=f"mirrorflow-bench-{name}-")
        return Path(self._held.enter_context(folder))

    def say(self, text: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def program(self, name: str) -> str:
        """The path of a peer. Raises `MissingPeer`."""
        path = shutil.which(name)
        if path is None:
            raise MissingPeer(name)
        return path

    def optional(self, *names: str) -> dict[str, str]:
        """Those of the peers that Debian does not have and this machine has: name -> path."""
        found = {name: shutil.which(name) for name in names}
        return {name: path for name, path in found.items() if path is not None}

    @property
    def prefect_url(self) -> str:
        """Of one Prefect server that all benchmarks of this run share, started when it is first needed."""
        if not self._prefect:
            from flows.orchestration.prefect_server import PrefectServer

            self.say("starting Prefect")
            server = PrefectServer(self.root / "prefect", port=0)
            self._prefect = self._held.enter_context(server).url
        return self._prefect


def open_place(*, small: bool, folder: Path | None = None) -> Place:
    """In memory, if a full run fits there: the disk of a virtual machine has moods."""
    parent = folder or (_MEMORY if small or _room(_MEMORY) >= _ROOM else None)
    return Place(small, Path(tempfile.mkdtemp(prefix="mirrorflow-bench-", dir=parent)))


def _room(path: Path) -> int:
    return shutil.disk_usage(path).free if path.is_dir() else 0


def touch_memory(folder: Path, size: int) -> None:
    """Fill `size` bytes of a folder in memory, and give them back, for files that are written there next.

    Otherwise who writes two copies of a layer, as a mirror and its client do, pays the host twice: 2.5 s of
    system time a GiB instead of 0.6 s were seen in one pwrite loop, which says nothing about the mirror.
    """
    path = folder / "touched"
    with path.open("wb") as file:
        for _ in range(-(-size // len(_PIECE))):
            file.write(_PIECE)
    path.unlink()
