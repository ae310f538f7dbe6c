"""`mirrorflow` as a user runs it: a process of its own, and the profile that it is given."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]


def mirrorflow(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write_profile(folder: Path, url: str, content: str, more: str = "") -> Path:
    path = folder / "profile.yaml"
    path.write_text(
        "storage: {rootDirectory: store}\n"
        f"sync: {{registries: [{{name: up, urls: ['{url}'], {more} content: [{content}]}}]}}\n"
    )
    return path
