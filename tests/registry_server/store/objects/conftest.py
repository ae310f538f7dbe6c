"""A bucket of a real S3 server, directly and through a network that can be told to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.store.filesystem.disk import Disk
from registry_server.store.objects.folder import FolderObjects
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.objects.storage_driver import RetryLimits, StorageDriver
from tests.support import s3_trouble as trouble
from tests.support.azure_server import running_azure
from tests.support.gcs_server import running_gcs
from tests.support.object_storage import ENVIRONMENT, running_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.store.objects.objects import Objects
    from tests.support.azure_server import AzureServer
    from tests.support.gcs_server import GcsServer
    from tests.support.object_storage import S3Server
    from tests.support.s3_trouble import TroubledS3

LIMITS = RetryLimits(times=3, seconds=10.0, first_pause=0.01, longest_pause=0.05, connect=2.0, read=1.0)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("bucket")
        yield server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def network(s3: S3Server) -> Iterator[TroubledS3]:
    with trouble.troubled(s3.url) as found:
        yield found


@pytest.fixture
def driver(network: TroubledS3, tmp_path: Path) -> StorageDriver:
    prefix = f"tests/{tmp_path.name}"
    return StorageDriver("s3", "bucket", prefix, regionendpoint=network.url, limits=LIMITS)


@pytest.fixture
def remote(driver: StorageDriver) -> ObjectStorage:
    return ObjectStorage(driver)


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    with running_gcs() as server:
        yield server


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureServer]:
    with running_azure() as server:
        yield server


@pytest.fixture(params=["folder", "s3", "gcs", "azure"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    if request.param == "folder":
        disk = Disk(str(tmp_path / "store"), "none")
        disk.make_first_folder(f"{disk.root}/staging")
        (tmp_path / "store" / "format.json").touch()
        return FolderObjects(disk)
    if request.param == "gcs":
        google: GcsServer = request.getfixturevalue("gcs")
        for name, value in google.environment.items():
            monkeypatch.setenv(name, value)
        driver = StorageDriver("gcs", google.bucket, f"tests/{tmp_path.name}", regionendpoint=google.url)
        return ObjectStorage(driver)
    if request.param == "azure":
        microsoft: AzureServer = request.getfixturevalue("azure")
        for name, value in microsoft.environment.items():
            monkeypatch.setenv(name, value)
        return ObjectStorage(
            StorageDriver(
                "azure",
                microsoft.container,
                f"tests/{tmp_path.name}",
                regionendpoint=microsoft.url,
                accountname="account",
            )
        )
    server: S3Server = request.getfixturevalue("s3")
    # A prefix of its own: nothing of another test is seen.
    return ObjectStorage(StorageDriver("s3", "bucket", f"tests/{tmp_path.name}", regionendpoint=server.url))
