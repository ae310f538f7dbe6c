"""Fixtures of notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.flows.notify.telling import Telling
from tests.support_misbehaving import Misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[Telling]:
    with Misbehaving() as upstream, Misbehaving() as hook:
        yield Telling(tmp_path, upstream, hook)
