"""Two sides of a gap: the far one with a policy, or without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tasks.stored.bundles.sides import ENFORCED, Gap, gap

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def strict(tmp_path: Path) -> Gap:
    """The far side takes only what the team has signed."""
    return gap(tmp_path, policy=ENFORCED)


@pytest.fixture
def plain(tmp_path: Path) -> Gap:
    """The far side has no policy."""
    return gap(tmp_path)
