from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tasks.trust.material import ABSENT, DATA
from tests.tasks.trust.world import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    if not (DATA / "sig_fixture.py").exists():
        pytest.skip(ABSENT)
    folder: Path = tmp_path_factory.mktemp("trust")
    return World(folder)
