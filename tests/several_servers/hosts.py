"""Two hosts over one file system that caches names and attributes: two FUSE mounts of one folder (bindfs).

What one mount changes, the other shows up to `CACHED` seconds later, as NFS and GlusterFS do between hosts.
Locks hold between the two.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.clients.conftest import optional_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CACHED = 0.5  # seconds


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The folder in which each host sees what both share. Skipped where nothing can be mounted."""
    shared = folder / "shared"
    shared.mkdir()
    with ExitStack() as mounted:
        yield (
            mounted.enter_context(_mounted(shared, folder / "host1")),
            mounted.enter_context(_mounted(shared, folder / "host2")),
        )


@contextmanager
def _mounted(shared: Path, at: Path) -> Iterator[Path]:
    at.mkdir()
    caches = f"attr_timeout={CACHED},entry_timeout={CACHED},negative_timeout={CACHED}"
    command = [optional_program("bindfs"), "--multithreaded", "--enable-lock-forwarding", "-o", caches]
    done = subprocess.run([*command, shared, at], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        pytest.skip(f"this user may not mount with FUSE here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["fusermount", "-u", "-z", at], check=True, timeout=30)
