"""Running ours as a user does, and the plain functions, each as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.processes import CommandFailed, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.harness.processes import Usage

ROOT: Final = Path(__file__).parents[2]
_START: Final = 180.0  # seconds
_READY: Final = "Press Ctrl-C to stop"
MIRRORFLOW: Final = (sys.executable, "-c", "from flows.cli import main; main()")


@dataclass(frozen=True, slots=True)
class Synced:
    """`wall` and `cpu`: seconds of the sync itself, without the start of Python and its imports."""

    usage: Usage
    wall: float
    cpu: float
    requests: dict[str, int]
    totals: dict[str, int]


def environment(**more: str) -> dict[str, str]:
    """Of a child: as ours, without what Prefect was told, and with the repository on its path.

    Python may write byte code, as where mirrorflow is installed: without it each start compiles all modules.
    """
    left_out = ("PREFECT_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def sync_by_command(profile: Path, *options: str, more: Mapping[str, str] | None = None) -> Usage:
    """`mirrorflow sync` as a user types it: the start of Python is part of it. `more`: variables.

    Raises `CommandFailed` when not all is in place at the end.
    """
    return run([*MIRRORFLOW, "sync", str(profile), *options], environment=environment(**(more or {}))).usage


@contextmanager
def up(profile: Path, **more: str) -> Iterator[int]:
    """`mirrorflow up` with these variables beside, until the block ends; its process id."""
    variables = environment(PREFECT_HOME=str(profile.parent / "prefect"), **more)
    log = profile.parent / "up.log"
    with log.open("wb") as told:
        child = subprocess.Popen([*MIRRORFLOW, "up", str(profile)], env=variables, stdout=told, stderr=told)
    try:
        _await_ready(child, log)
        yield child.pid
    finally:
        child.terminate()  # not SIGINT: what a script starts in the background ignores that
        child.wait()


def _await_ready(child: subprocess.Popen[bytes], log: Path) -> None:
    """Until it says that it runs: the Prefect server and the runner are there then too."""
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and child.poll() is None:
        if _READY in log.read_text():
            return
        time.sleep(0.2)
    raise RuntimeError(f"mirrorflow up did not start: {log.read_text()[-800:]}")


def sync_plainly(profile: Path) -> Synced:
    """Through the plain functions. Raises `CommandFailed` when not all is in place at the end."""
    return _synced([sys.executable, "-m", "benchmarks.harness.programs.plain", str(profile)], environment())


def sync_by_flow(profile: Path, prefect_url: str) -> Synced:
    """Through Prefect, whose server runs already."""
    command = [sys.executable, "-m", "benchmarks.harness.programs.flow", str(profile)]
    more = {"PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(profile.parent / "prefect")}
    return _synced(command, environment(**more))


def _synced(command: list[str], variables: dict[str, str]) -> Synced:
    done = run(command, environment=variables)
    found: dict[str, Any] = json.loads(done.output.splitlines()[-1])
    if found["state"] != "complete":
        raise CommandFailed(f"{' '.join(command)}: {found['message']}")
    return Synced(done.usage, found["wall"], found["cpu"], found["requests"], found["totals"])
