"""Every benchmark that needs no Prefect server, tiny."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.small import WITHOUT_PREFECT, assert_runs

if TYPE_CHECKING:
    from benchmarks.harness.place import Place


@pytest.mark.parametrize("name", WITHOUT_PREFECT)
def test_a_small_version_runs(place: Place, name: str) -> None:
    assert_runs(place, name)
