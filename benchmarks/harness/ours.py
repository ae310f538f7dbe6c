"""Running ours as a user does, and the plain functions, each as a process of its own."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.processes import CommandFailed, run

if TYPE_CHECKING:
    from benchmarks.harness.processes import Usage

ROOT: Final = Path(__file__).parents[2]
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
    """Of a child: as ours, without what Prefect was told, and with the repository on its path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


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
