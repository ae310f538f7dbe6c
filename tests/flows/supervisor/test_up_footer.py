"""What `up` keeps at the bottom of a terminal: the blobs that arrive, and the next runs."""

from __future__ import annotations

import io
import os
import re
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from flows.orchestration.runner_events import EntrySchedule
from flows.supervisor.view import ArrivingBlobs, SupervisorView, footer, upcoming
from profiles.values.poll_timing import PollInterval, PollSchedule, PollTiming
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1_764_504_000.0  # 2025-11-30T12:00:00Z
HOUR = 3600.0
HOURLY, NIGHTLY = PollInterval(HOUR), PollSchedule("0 3 * * *")


@pytest.mark.parametrize(
    ("due", "timing", "expected"),
    [
        pytest.param(NOON + 60, HOURLY, NOON + 60, id="a time to come"),
        pytest.param(NOON - 60, HOURLY, NOON + HOUR - 60, id="after a run comes the next one"),
        pytest.param(NOON - 60, NIGHTLY, NOON + 15 * HOUR, id="the next time of a schedule"),
        pytest.param(NOON - 60, None, None, id="the profile is not known"),
        pytest.param(None, None, None, id="no schedule"),
    ],
)
def test_the_next_run_is_the_next_one(
    due: float | None, timing: PollTiming | None, expected: float | None
) -> None:
    entry = EntrySchedule("up", str(timing or ""), due, started=False)
    timings = {"up": timing} if timing else {}
    assert upcoming([entry], timings, NOON) == ([] if expected is None else [(expected, "up")])


def test_the_footer_names_three_runs_and_counts_the_others() -> None:
    runs = [(NOON + 60 * number, f"entry{number}") for number in range(1, 6)]
    arriving, following = footer("2 blobs, 1.0 MB so far", runs, NOON).plain.splitlines()
    assert arriving == "arriving: 2 blobs, 1.0 MB so far"
    assert re.fullmatch(
        r"next run: entry1 at \d\d:\d\d:\d\d \(in 1 min\), entry2 .*, entry3 .* and 2 more", following
    )
    assert footer("", [], NOON).plain == ""


def test_arriving_blobs_are_counted_while_they_grow(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    arriving = ArrivingBlobs([root.incoming.folder for root in store.roots])
    assert arriving.look(time.time()) == ""
    body = b"x" * 3_000_000
    descriptor = Descriptor("application/octet-stream", Digest.of(body), len(body))
    now = time.time()
    with store.repository(RepositoryName("app")).receive_blob(descriptor) as blob:
        blob.write(body[:1_000_000])
        arriving.look(now)
        blob.write(body[1_000_000:2_000_000])
        assert re.match(r"1 blob, 2\.0 MB so far, .* MB/s", arriving.look(now + 1))
        blob.write(body[2_000_000:])
        blob.commit()
    assert arriving.look(now + 2) == ""


def test_what_an_interrupted_transfer_left_does_not_arrive(tmp_path: Path) -> None:
    (tmp_path / "sha256-1").write_bytes(b"partial")
    os.utime(tmp_path / "sha256-1", (1, 1))
    assert ArrivingBlobs([str(tmp_path)]).look(time.time()) == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_the_footer_is_drawn_in_a_terminal_only(*, terminal: bool) -> None:
    output = io.StringIO()
    view = SupervisorView(Console(file=output, force_terminal=terminal, width=100))
    view.schedule([EntrySchedule("up", "every 1h", NOON + 60, started=False)], {"up": HOURLY})
    with view.live():
        view.redraw("1 blob", NOON)
        view.say("a line above")
        view.redraw("", NOON + 30)
    shown = output.getvalue()
    assert ("in 1 min" in shown, "in 30 s" in shown, "arriving" in shown) == (terminal,) * 3
    assert "a line above" in shown
