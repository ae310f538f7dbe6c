"""One registry for all of it, as a stranger sees it: a URL. Over a folder, and over a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.http.server_process import running_server
from registry_server.store.objects.storage_driver import StorageDriver
from registry_server.store.remote_storage import RemoteStorage
from tests.support.object_storage import ENVIRONMENT, running_s3

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", params=["folder", "bucket"])
def conforming(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of a running registry that may be written to. It follows redirects, as clients do."""
    root = tmp_path_factory.mktemp("conformance") / "store"
    if request.param == "folder":
        with running_server(root, writable=True) as url, client_of(url) as client:
            yield client
        return
    with running_s3(tmp_path_factory.mktemp("s3")) as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        driver = StorageDriver("s3", s3.make_bucket("bucket"), regionendpoint=s3.url)
        # Without redirects: what a bucket answers has no Docker-Content-Digest, the 307 before it has.
        remote = RemoteStorage(driver)
        with running_server(root, writable=True, remote=remote) as url, client_of(url) as client:
            yield client


def client_of(url: str) -> httpx.Client:
    headers = {"Accept-Encoding": "identity"}
    return httpx.Client(base_url=url, follow_redirects=True, headers=headers, timeout=30)
