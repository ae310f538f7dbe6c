from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.harness.place import open_place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.harness.place import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where small versions of the benchmarks work; they share a Prefect server."""
    folder: Path = tmp_path_factory.mktemp("benchmarks")
    with open_place(small=True, folder=folder) as found:
        yield found
