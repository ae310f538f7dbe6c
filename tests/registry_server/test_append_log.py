"""Lines of a log that several processes append to, where the disk is full and texts are long."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from registry_server.append_log import LONGEST, line_of

if TYPE_CHECKING:
    from pathlib import Path

# Files may have 250 bytes first, as on a disk with no more room.
_FULL_FOR_A_WHILE = """
import resource, signal, sys
from pathlib import Path
from registry_server.append_log import AppendLog

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = AppendLog(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (250, resource.RLIM_INFINITY))
for number in range(3):
    log.write({"number": number, "text": "x" * 150})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.write({"number": 3})
log.write({"number": 4})
"""


def test_a_line_behind_one_that_was_cut_by_a_full_disk_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    command = [sys.executable, "-c", _FULL_FOR_A_WHILE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    whole, cut, *after = path.read_text().splitlines()
    assert json.loads(whole)["number"] == 0
    assert len(cut) < 150
    assert [json.loads(line)["number"] for line in after] == [3, 4]
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize(
    "character",
    [
        pytest.param("x", id="ASCII"),
        pytest.param("é", id="six bytes"),
        pytest.param("\N{GRINNING FACE}", id="twelve bytes"),
    ],
)
def test_a_line_is_never_longer_than_a_pipe_takes_undivided(character: str) -> None:
    text = character * 5000
    fields = {"by": "sync", "user": text, "reason": text, "signers": [text] * 9, "repository": text}
    line = line_of(fields)
    assert len(line) <= LONGEST
    assert json.loads(line)["by"] == "sync"
