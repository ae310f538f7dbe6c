from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support_misbehaving import Misbehaving, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server
