"""Every benchmark, tiny: that it runs, and that what it counts is right. What it times says nothing here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.__main__ import NAMES, run_one
from benchmarks.harness.peers import MissingPeer
from benchmarks.harness.place import open_place
from benchmarks.harness.rows import Exactly
from tests.conftest import require_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.harness.place import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("benchmarks")
    with open_place(small=True, folder=folder) as found:
        yield found


@pytest.mark.parametrize("name", NAMES)
def test_a_small_version_runs(place: Place, name: str) -> None:
    try:
        rows = run_one(place, name)
    except MissingPeer as missing:
        require_program(missing.name)
        raise
    assert rows
    counted = [row for row in rows if isinstance(row.budget, Exactly)]
    assert {row.what: row.verdict for row in counted} == {row.what: "met" for row in counted}
