"""wrk against a server: so many requests a second, so many bytes a second, and none that went wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness.ours import environment
from benchmarks.harness.processes import CommandFailed, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SCRIPT = """
local paths = {{ {paths} }}
local number = 0
request = function()
  number = number % #paths + 1
  return wrk.format("GET", paths[number], {{ {headers} }})
end
done = function(summary)
  local e = summary.errors
  print(string.format('{{"requests": %d, "bytes": %d, "microseconds": %d, "errors": %d}}',
    summary.requests, summary.bytes, summary.duration, e.connect + e.read + e.write + e.status))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    requests: float  # a second
    bytes: float  # a second


def wrk(
    program: str,
    folder: Path,
    url: str,
    paths: Sequence[str],
    *,
    clients: int,
    seconds: int,
    headers: Mapping[str, str] | None = None,
) -> Load:
    """Ask for `paths` in turns, over and over. Raises `CommandFailed` when an answer is not 2xx."""
    script = folder / "wrk.lua"
    script.write_text(
        _SCRIPT.format(
            paths=", ".join(f'"{path}"' for path in paths),
            headers=", ".join(f'["{name}"] = "{value}"' for name, value in (headers or {}).items()),
        )
    )
    command = [program, "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url]
    found = json.loads(run(command).output.splitlines()[-1])
    if found["errors"]:
        raise CommandFailed(f"wrk {url}{paths[0]}: {found}")
    duration = found["microseconds"] / 1e6
    return Load(found["requests"] / duration, found["bytes"] / duration)


def heads(url: str, path: str, *, clients: int, seconds: int) -> Load:
    """The same with HEAD, which wrk cannot."""
    host = url.partition("//")[2]
    command = [
        sys.executable,
        "-m",
        "benchmarks.harness.programs.heads",
        host,
        path,
        str(clients),
        str(seconds),
    ]
    return Load(json.loads(run(command, environment=environment()).output)["requests"], 0)
