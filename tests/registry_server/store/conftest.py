from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName
from registry_server.store.objects.storage_driver import StorageDriver
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store
from tests.support.object_storage import ENVIRONMENT, running_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.store.filesystem.durability import Durability
    from registry_server.store.repository import Repository
    from tests.support.object_storage import S3Server


@pytest.fixture(params=["full", "batch", "none"])
def durability(request: pytest.FixtureRequest) -> Durability:
    chosen: Durability = request.param
    return chosen


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with the bucket `images`, for the tests of a module; each store has its own prefix."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("images")
        yield server


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store: what is told of it without its files holds wherever its objects are."""
    if request.param == "folder":
        return Store.open(tmp_path / "store", durability="none")
    server: S3Server = request.getfixturevalue("bucket")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    driver = StorageDriver("s3", "images", f"tests/{tmp_path.name}", regionendpoint=server.url)
    return Store.open(tmp_path / "store", remote=RemoteStorage(driver))


@pytest.fixture
def nginx(store: Store) -> Repository:
    return store.repository(RepositoryName("library/nginx"))


@pytest.fixture
def other(store: Store) -> Repository:
    return store.repository(RepositoryName("library/other"))
