from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tasks.trust.world import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path, world: World) -> World:
    """A world whose files a test may change."""
    del world  # it skips the test where there is no material
    return World(tmp_path)
