from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flows.notebook_support.sync_report import Freshness, RunBytes, freshness, run_bytes, saved_share
from flows.reporting.tag_status import TagStatus

HOUR = 3600.0


def _tag(reference: str, success: float | None, problem: str = "") -> TagStatus:
    return TagStatus("sample", "library/nginx", reference, "sha256:a", "sha256:a", 0.0, success, problem)


def test_what_is_not_in_place_comes_first_then_the_stalest() -> None:
    tags = [
        _tag("fresh", 10 * HOUR),
        _tag("broken", 9 * HOUR, "404 Not Found"),
        _tag("stale", 0.0),
        _tag("of tomorrow", 11 * HOUR),  # clocks differ
        _tag("never", None, "connection refused"),
        _tag("", None, "no tag list"),
    ]
    assert freshness(tags, 10 * HOUR) == [
        Freshness("sample", "library/nginx", None, "no tag list"),
        Freshness("sample", "library/nginx:never", None, "connection refused"),
        Freshness("sample", "library/nginx:broken", 1.0, "404 Not Found"),
        Freshness("sample", "library/nginx:stale", 10.0, ""),
        Freshness("sample", "library/nginx:fresh", 0.0, ""),
        Freshness("sample", "library/nginx:of tomorrow", 0.0, ""),
    ]


def test_the_saved_share_is_of_all_runs_together() -> None:
    when = datetime(2026, 11, 23, tzinfo=UTC)
    assert saved_share([RunBytes("a", when, 30, 10), RunBytes("a", when, 0, 60)]) == 0.7


def _report(outcome: str, *, moved: int, size: int) -> dict[str, Any]:
    image = {"image": "app:1", "digest": "sha256:a", "outcome": outcome, "bytesMoved": moved, "size": size}
    totals = {"bytesMoved": moved, "bytesSaved": size - moved}
    return {"registry": "a", "ended": "2026-11-23T00:00:00Z", "totals": totals, "images": [image]}


@pytest.mark.parametrize(
    ("reports", "saved"),
    [
        pytest.param([_report("copied", moved=30, size=100)], [70], id="others had brought the rest"),
        pytest.param(
            [_report("failed", moved=60, size=100), _report("copied", moved=40, size=100)],
            [0, 0],
            id="a run went on where another one had failed",
        ),
        pytest.param(
            [_report("not reached", moved=20, size=100), _report("copied", moved=30, size=100)],
            [0, 50],
            id="some of it was resumed, some shared",
        ),
    ],
)
def test_what_was_resumed_was_not_saved(reports: list[dict[str, Any]], saved: list[int]) -> None:
    assert [row.saved for row in run_bytes(reports)] == saved
