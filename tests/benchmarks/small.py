"""Running a benchmark, tiny: that it runs, and that what it counts is right. What it times says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from benchmarks.__main__ import NAMES, run_one
from benchmarks.harness.peers.servers import MissingPeer
from benchmarks.harness.report.rows import Exactly
from tests.conftest import require_program

if TYPE_CHECKING:
    from benchmarks.harness.place import Place

# Two files of tests, so that two workers share them.
WITH_PREFECT: Final = ("first_mirror", "on_demand", "pull_through", "orchestration")
WITHOUT_PREFECT: Final = tuple(name for name in NAMES if name not in WITH_PREFECT)

NOT_IN_DEBIAN: Final = frozenset({"versitygw"})


def assert_runs(place: Place, name: str) -> None:
    """Skips where a peer is not installed, and fails in CI."""
    try:
        rows = run_one(place, name)
    except MissingPeer as missing:
        if missing.name not in NOT_IN_DEBIAN:
            require_program(missing.name)
        pytest.skip(str(missing))
    assert rows
    counted = [row for row in rows if isinstance(row.budget, Exactly)]
    assert {row.what: row.verdict for row in counted} == {row.what: "met" for row in counted}
