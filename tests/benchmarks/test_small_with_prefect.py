"""Every benchmark that needs a Prefect server, tiny; they share one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.small import WITH_PREFECT, assert_runs

if TYPE_CHECKING:
    from benchmarks.harness.place import Place


@pytest.mark.parametrize("name", WITH_PREFECT)
def test_a_small_version_runs(place: Place, name: str) -> None:
    assert_runs(place, name)
