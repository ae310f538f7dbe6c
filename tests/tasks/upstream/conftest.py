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


@pytest.fixture
def other() -> Iterator[Misbehaving]:
    """Another host, as far as anybody can tell: another address of this machine."""
    with misbehaving("127.0.0.2") as server:
        yield server
