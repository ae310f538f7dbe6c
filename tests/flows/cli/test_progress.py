"""What `sync` says while it runs: bars in a terminal, lines in a log."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from flows.reporting.progress import TransferRate
from flows.reporting.progress_bars import ProgressLines, with_time_left
from tasks.run.record import Totals
from tests.support.command_line import COMMAND, mirrorflow, write_profile
from tests.support_misbehaving import Misbehaving, answers

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


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        pytest.param([(0, 10.0)], "3 of 9 images", id="after one look"),
        pytest.param([(0, 10.0), (5, 60.0)], "3 of 9 images, 4.0 s left", id="it goes on"),
        pytest.param([(0, 60.0), (5, 60.0)], "3 of 9 images", id="it stands still"),
        pytest.param([(0, 60.0), (5, 100.0)], "3 of 9 images", id="it is there"),
    ],
)
def test_of_a_run_elsewhere_the_time_left_comes_from_its_percent(
    seen: list[tuple[float, float]], said: str
) -> None:
    rate = TransferRate()
    for now, percent in seen:
        rate.add(round(percent * 1000), now)
    assert with_time_left("3 of 9 images", seen[-1][1], rate) == said


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


@pytest.mark.parametrize(
    "columns",
    [pytest.param(120, id="with all words"), pytest.param(80, id="in 80 columns, with a long name")],
)
def test_a_bar_has_the_rate_and_the_time_that_is_left(
    upstream: Misbehaving, tmp_path: Path, columns: int
) -> None:
    """Of a single blob too: the bar moves while it arrives."""
    profile = slow(tmp_path, upstream, "150KB")
    if columns == 80:
        profile.write_text(profile.read_text().replace("name: up", f"name: {'long-' * 10}name"))
    shown = in_a_terminal("sync", str(profile), columns=columns)
    assert "kB/s, " in shown
    assert " left" in shown
    assert "━" in shown


def test_status_is_watched_until_it_is_interrupted(upstream: Misbehaving, tmp_path: Path) -> None:
    profile = write_profile(tmp_path, f"http://{upstream.host}", "{prefix: app}")
    assert mirrorflow("sync", profile).returncode == 0
    shown = in_a_terminal("status", "--watch", str(profile), columns=80, until=b"Ctrl-C ends")
    assert "everything that the profile wants is in place" in shown
    upstream.on("/v2/app/tags/list", answers(500))
    assert mirrorflow("sync", profile).returncode == 1
    shown = in_a_terminal("status", "-w", str(profile), columns=80, until=b"Ctrl-C ends", code=2)
    assert "500 Internal Server Error" in shown


def test_status_is_watched_in_a_terminal_only(upstream: Misbehaving, tmp_path: Path) -> None:
    profile = write_profile(tmp_path, f"http://{upstream.host}", "{prefix: app}")
    told = mirrorflow("status", "--watch", profile)
    assert told.returncode == 1
    assert "--watch needs a terminal" in told.stderr
    assert "leave out --json" in mirrorflow("status", "--watch", "--json", profile).stderr


def totals(moved: int) -> Totals:
    return Totals(
        images=2, published=1, failed=0, skipped=0, unchanged=0, planned_bytes=100 * MB, moved_bytes=moved
    )


def slow(folder: Path, upstream: Misbehaving, rate: str) -> Path:
    """A profile that takes so many bytes a second."""
    return write_profile(folder, f"http://{upstream.host}", "{prefix: app}", f"bytesPerSec: {rate},")


def in_a_terminal(*arguments: str, columns: int = 120, until: bytes = b"", code: int = 0) -> str:
    """All that a command prints, where stdout and stderr are a terminal; interrupted after `until`."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    with subprocess.Popen([*COMMAND, *arguments], stdout=theirs, stderr=theirs, env=environment) as child:
        os.close(theirs)
        shown, waiting = b"", bool(until)
        while chunk := _read(ours):
            shown += chunk
            if waiting and until in shown:
                waiting = False
                child.send_signal(signal.SIGINT)
    os.close(ours)
    assert child.returncode == code
    return shown.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""
