"""What a whole process costs: wall, CPU, peak memory. Linux: it reads /proc."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK = 0.02  # seconds between two looks at the memory
_QUIET = 0.25  # of a core, for a second; servers that wait take some hundredths
_QUIET_WITHIN = 60.0  # seconds


class CommandFailed(Exception):
    """A program that is measured did not do its work; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Usage:
    """`wall` and `cpu` in seconds, `peak` in bytes (the most that was ever resident)."""

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Finished:
    usage: Usage
    output: str
    errors: str
    status: int


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    statuses: tuple[int, ...] = (0,),
) -> Finished:
    """Run to the end and measure. Raises `CommandFailed` for another status than `statuses`."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        child = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=errors)
        peak = _Peak(child.pid)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        usage = Usage(wall, used.ru_utime + used.ru_stime, peak.stop())
        done = Finished(usage, _text(output), _text(errors), child.returncode)
    if done.status not in statuses:
        raise CommandFailed(f"{' '.join(command)[:200]}: status {done.status}: {done.errors[-800:]}")
    return done


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Peak:
    """Asks again and again: `ru_maxrss` of a child begins at what its parent had."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._ended = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK):
            self._peak = max(self._peak, peak_memory(self._pid))


def peak_memory(pid: int) -> int:
    """Bytes; 0 for a process that is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        for task in _children_files(each):
            with suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def _children_files(pid: int) -> list[Path]:
    with suppress(OSError):
        return list(Path(f"/proc/{pid}/task").glob("*/children"))
    return []


def cpu_seconds(pid: int) -> float:
    """That a process and its descendants have used so far."""
    return sum(_cpu(each) for each in family(pid))


def _cpu(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS  # its own, and that of children that have ended
    return 0.0


def await_quiet() -> None:
    """Until nothing that was begun before is still at work beside us: what a burst of misses leaves behind
    keeps Prefect busy for seconds, and the next figure is not about that."""
    pid, deadline = os.getpid(), time.monotonic() + _QUIET_WITHIN
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(1)
        if cpu_seconds(pid) - before < _QUIET:
            return
    raise RuntimeError(f"what was begun before still works after {_QUIET_WITHIN:.0f} s")


def most_resident(pid: int) -> int:
    """The most that one process of the family ever had resident, in bytes."""
    return max(peak_memory(each) for each in family(pid))
