"""Upstreams as they are in the wild: each row of the tables is one, and a run over it says what is true."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.in_the_wild.cases import (
    classified,
    gone,
    heads,
    lists,
    odd_content,
    renamed_tags,
    waiting,
    windows,
)
from tests.tasks.runs import assert_complete, mirror, opened, visible

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.results.report import Report
    from tests.in_the_wild.cases.rows import Row
    from tests.support_misbehaving import Misbehaving

TABLES = (classified, gone, heads, lists, odd_content, renamed_tags, waiting, windows)
ROWS = tuple(row for table in TABLES for row in table.ROWS)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_run_says_what_is_true(row: Row, tmp_path: Path, upstream: Misbehaving) -> None:
    row.arrange(upstream)
    storage = dict(row.storage)
    with opened(tmp_path, f"http://{upstream.host}", *row.content, storage=storage, **row.entry) as run:
        report = mirror(run)
        assert sorted(visible(run.store)) == sorted(row.mirrored), report.message
        for name in row.mirrored:
            assert_complete(run.store, name)
    _assert_told(report, row)


def _assert_told(report: Report, row: Row) -> None:
    """Everything that the row names is said, and nothing else."""
    reasons = {image.image: image.reason for image in report.images if image.outcome == "failed"}
    assert reasons.keys() == row.failed.keys()
    for image, reason in reasons.items():
        assert re.search(row.failed[image], reason)
    said = " | ".join(report.problems)
    assert re.search(row.problem, said) if row.problem else not said
    assert len(report.notes) == len(row.notes), report.notes
    assert all(re.search(wanted, found) for wanted, found in zip(row.notes, report.notes, strict=True))
    assert row.dropped is None or dict(report.dropped.counts) == row.dropped
    assert report.complete is not bool(row.failed or row.problem)
