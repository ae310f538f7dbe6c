from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.tasks.companies import Holder, WithApi, WithoutApi, holders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithApi]:
    with holders(tmp_path_factory.mktemp("with_api"), api=True) as found:
        assert isinstance(found, WithApi)
        yield found


@pytest.fixture
def with_api(server: WithApi) -> Iterator[WithApi]:
    """Empty, and nothing was asked of it."""
    server.asked()
    yield server
    shutil.rmtree(server.registry.store.root / "repos")


@pytest.fixture(params=["with_api", "without_api"])
def upstream(request: pytest.FixtureRequest) -> Holder:
    found: Holder = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def without_api(tmp_path: Path) -> Iterator[WithoutApi]:
    with holders(tmp_path, api=False) as found:
        assert isinstance(found, WithoutApi)
        yield found
