"""The `mirrorflow` command."""

from __future__ import annotations

import atexit
import gc
import sys


def main() -> None:
    """The entry point of the distribution. The commands are imported when it is called."""
    # With click and rich installed, httpx imports a command of its own, with all that draws it. It does
    # without when that cannot be imported, which saves a quarter of the start of `plan`.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # what the import system calls absent
    # At its end Python looks for cycles among all that was imported, which is a sixth of `check`. The kernel
    # takes the memory back anyway; files are closed, and what `atexit` has is called, as ever.
    atexit.register(gc.freeze)
    from flows.cli.app import main as run

    run()
