"""A child that dies with its parent, also when the parent is killed and cannot say goodbye.

Started as a program it ties itself to its parent and becomes the command that follows:
`python parent_death.py PARENT_PID SIGNAL COMMAND...`. (A `preexec_fn` would do the same inside the
forked copy of a threaded process, where it may deadlock.) Imports nothing of ours, so that the
detour costs some 15 ms.

The kernel sends the signal when the *thread* that started the child ends: start such children
from the main thread, or from one that lives as long as they should.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int, sign: int = signal.SIGKILL) -> None:
    """Ask the kernel for `sign` at the death of the parent; exit at once if it is gone already.

    `parent` is the process id that the parent had when it started this one. Elsewhere than on Linux
    nothing happens: the child then outlives a parent that was killed.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sign), 0, 0, 0)
    if os.getppid() != parent:  # it died before the request was made
        sys.exit(0)


def ends_with_parent(command: list[str], sign: int = signal.SIGKILL) -> list[str]:
    """The command line that runs `command` as a child of this process that dies with it."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(sign)), *command]


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - the command is a list, no shell is wanted
