from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.filesystem.durability import Durability
    from registry_server.store.repository import Repository


@pytest.fixture(params=["full", "batch", "none"])
def durability(request: pytest.FixtureRequest) -> Durability:
    chosen: Durability = request.param
    return chosen


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", durability="none")


@pytest.fixture
def nginx(store: Store) -> Repository:
    return store.repository(RepositoryName("library/nginx"))


@pytest.fixture
def other(store: Store) -> Repository:
    return store.repository(RepositoryName("library/other"))
