"""A command for which everything is on a file system that the test chooses."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.clients.conftest import optional_program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def run_as_if_mounted(
    mountinfo: str, command: Sequence[str], *, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run `command` where /proc/self/mountinfo has only that line. Skipped where this user may not mount."""
    shown = folder / "mountinfo"
    shown.write_text(mountinfo + "\n")
    unshare = [optional_program("unshare"), "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a mount namespace here")
    # exec keeps the pid, and with it what is mounted over its file.
    script = 'mount --bind "$0" /proc/$$/mountinfo && exec "$@"'
    return subprocess.run(
        [*unshare, "sh", "-c", script, str(shown), *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
