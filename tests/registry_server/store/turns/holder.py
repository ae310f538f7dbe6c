"""Programs that hold something until their input ends, so that a test can kill them while they do."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parents[4]
_HOLD = """
import sys, time
{make}
with turns.{what}:
    print("held", flush=True)
    sys.stdin.read()
"""
_COUNT = """
import sys
from pathlib import Path
{make}
path = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with turns.alone("counter"):
        path.write_text(str(int(path.read_text()) + 1))
"""


@contextmanager
def holding(make: str, what: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds `what`, e.g. `alone("x")`. `make` is the code that makes its `turns`."""
    program = [sys.executable, "-c", _HOLD.format(make=make, what=what)]
    with subprocess.Popen(program, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def counting(make: str, path: Path, times: int) -> subprocess.Popen[bytes]:
    """A process that adds 1 to the number in a file so many times, which needs a turn alone to be right."""
    return subprocess.Popen([sys.executable, "-c", _COUNT.format(make=make), str(path), str(times)], cwd=HERE)
