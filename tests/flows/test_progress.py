"""What `sync` says while it runs: bars in a terminal, lines in a log."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

from flows.reporting.progress import TransferRate
from flows.reporting.progress_bars import ProgressLines
from tasks.run.record import Totals
from tests.flows.test_cli import COMMAND, mirrorflow, write_profile
from tests.support_misbehaving import Misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MB = 1_000_000


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as upstream:
        upstream.add_image("app", "1", (os.urandom(600_000),))
        yield upstream


@pytest.mark.parametrize(
    ("seen", "left", "words"),
    [
        pytest.param([], 5 * MB, "", id="before the first look"),
        pytest.param([(0, 0)], 5 * MB, "", id="after one look there is no rate"),
        pytest.param([(0, 0), (2, 0)], 5 * MB, "", id="nothing arrives"),
        pytest.param([(0, 0), (2, 4 * MB)], 60 * MB, "2.0 MB/s, 30 s left", id="bytes arrive"),
        pytest.param([(0, 0), (2, 4 * MB)], 0, "2.0 MB/s", id="nothing is left"),
        pytest.param(
            [(0, 0), (10, 90 * MB), (20, 90 * MB), (25, 95 * MB)],
            10 * MB,
            "333.3 kB/s, 30 s left",
            id="what was long ago does not count",
        ),
    ],
)
def test_the_rate_is_of_the_last_seconds(seen: list[tuple[float, int]], left: int, words: str) -> None:
    rate = TransferRate()
    for now, total in seen:
        rate.add(total, now)
    assert rate.words(left) == words


def test_without_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    said: list[str] = []
    now = 0.0
    lines = ProgressLines(said.append, now, lambda: now)
    for second in range(25):
        now = float(second)
        lines.show("up", totals(second * MB))
    assert said == [
        "up: 1 of 2 images, 10.0 MB of 100.0 MB, 1.0 MB/s, 1 min 30 s left",
        "up: 1 of 2 images, 20.0 MB of 100.0 MB, 1.0 MB/s, 1 min 20 s left",
    ]


def test_a_short_run_says_nothing_of_its_progress(upstream: Misbehaving, tmp_path: Path) -> None:
    done = mirrorflow("sync", write_profile(tmp_path, f"http://{upstream.host}", "{prefix: app}"))
    assert done.returncode == 0
    assert "images" not in done.stderr


def test_a_long_run_says_how_far_it_is(upstream: Misbehaving, tmp_path: Path) -> None:
    done = mirrorflow("sync", slow(tmp_path, upstream, "50KB"))
    assert done.returncode == 0
    assert "up: 0 of 1 images, " in done.stderr
    assert " left" in done.stderr
    assert " left" not in done.stdout


def test_a_bar_has_the_rate_and_the_time_that_is_left(upstream: Misbehaving, tmp_path: Path) -> None:
    shown = in_a_terminal("sync", str(slow(tmp_path, upstream, "150KB")))
    assert "kB/s, " in shown
    assert " left" in shown


def totals(moved: int) -> Totals:
    return Totals(
        images=2, published=1, failed=0, skipped=0, unchanged=0, planned_bytes=100 * MB, moved_bytes=moved
    )


def slow(folder: Path, upstream: Misbehaving, rate: str) -> Path:
    """A profile that takes so many bytes a second."""
    return write_profile(folder, f"http://{upstream.host}", "{prefix: app}", f"bytesPerSec: {rate},")


def in_a_terminal(*arguments: str) -> str:
    """All that a command prints, where stdout and stderr are a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm-256color"}
    with subprocess.Popen([*COMMAND, *arguments], stdout=theirs, stderr=theirs, env=environment) as child:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    assert child.returncode == 0
    return shown.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""
