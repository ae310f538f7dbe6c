"""Opening a store in object storage, and its local folder."""

from __future__ import annotations

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.reference import RepositoryName
from registry_server.store.errors import (
    StoreDamaged,
    StoreError,
    StoreMissing,
    StoreNotShareable,
    StoreUnreachable,
)
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.objects.storage_driver import RetryLimits, StorageDriver
from registry_server.store.remote_root import _require_conditions
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store
from tests.registry_server.store.images import check, layer, tag_image
from tests.support.object_storage import ENVIRONMENT, running_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.object_storage import S3Server

NAME = RepositoryName("library/nginx")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        server.make_bucket("bucket")
        yield server


@pytest.fixture
def remote(s3: S3Server, tmp_path: Path) -> RemoteStorage:
    return RemoteStorage(StorageDriver("s3", "bucket", tmp_path.name, regionendpoint=s3.url))


def test_hosts_that_open_it_see_one_store(remote: RemoteStorage, tmp_path: Path) -> None:
    one, other = (Store.open(tmp_path / name, remote=remote) for name in ("one", "other"))
    assert one.uuid == other.uuid
    assert one.where == f"s3://bucket/{tmp_path.name}"
    tag_image(one.repository(NAME), "1", b"layer")
    assert other.repositories() == [NAME]
    assert other.repository(NAME).tags() == ["1"]
    assert check(other) == 1


def test_nothing_is_made_where_nothing_may_be_made(remote: RemoteStorage, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="there is no store in s3://bucket/"):
        Store.open(tmp_path / "local", remote=remote, create=False)
    assert not (tmp_path / "local").exists()


def test_what_is_on_its_way_in_is_in_the_local_folder(remote: RemoteStorage, tmp_path: Path) -> None:
    repository = Store.open(tmp_path / "local", remote=remote).repository(NAME)
    blob = layer(b"a layer that breaks off")
    with repository.receive_blob(blob) as incoming:
        incoming.write(b"a layer ")
    [held] = (tmp_path / "local/incoming").iterdir()
    assert held.read_bytes() == b"a layer "
    with repository.receive_blob(blob) as incoming:
        assert incoming.offset == 8
        incoming.write(b"that breaks off")
        incoming.commit()
    assert list((tmp_path / "local/incoming").iterdir()) == []
    assert repository.find_blob(blob.digest).read(100) == b"a layer that breaks off"


def test_a_folder_with_a_store_of_its_own_is_not_taken(remote: RemoteStorage, tmp_path: Path) -> None:
    Store.open(tmp_path / "folder")
    with pytest.raises(StoreDamaged, match=r"holds a store of its own.*name an empty folder"):
        Store.open(tmp_path / "folder", remote=remote)


def test_the_local_folder_is_no_store(remote: RemoteStorage, tmp_path: Path) -> None:
    """A profile that lost its `storageDriver` must not begin an empty store there."""
    Store.open(tmp_path / "local", remote=remote)
    with pytest.raises(StoreMissing, match=r"add storage.storageDriver to the profile"):
        Store.open(tmp_path / "local")


def test_the_local_folder_of_one_store_is_not_that_of_another(s3: S3Server, tmp_path: Path) -> None:
    driver = StorageDriver("s3", "bucket", f"{tmp_path.name}/1", regionendpoint=s3.url)
    Store.open(tmp_path / "local", remote=RemoteStorage(driver))
    other = StorageDriver("s3", "bucket", f"{tmp_path.name}/2", regionendpoint=s3.url)
    with pytest.raises(StoreDamaged, match="name an empty folder"):
        Store.open(tmp_path / "local", remote=RemoteStorage(other))


class Interrupted(ObjectStorage):
    """Another process makes the store as well, after the first request that changes something."""

    def __init__(self, driver: StorageDriver) -> None:
        super().__init__(driver)
        self._is_first = True

    def put(self, key: str, content: bytes, **options: Any) -> None:
        super().put(key, content, **options)
        if self._is_first:
            self._is_first = False
            _require_conditions(ObjectStorage(self._bucket.driver))


def test_two_hosts_that_make_it_at_the_same_time_do_not_blame_the_server(remote: RemoteStorage) -> None:
    objects = Interrupted(remote.driver)
    _require_conditions(objects)
    assert [key for key, _ in objects.walk("")] == []


class Careless(BaseHTTPRequestHandler):
    """An S3 that takes every PUT, whatever its condition; nothing is in its bucket."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "list-type" in self.path:
            self._answer(
                200, b"<ListBucketResult><Name>bucket</Name><KeyCount>0</KeyCount></ListBucketResult>"
            )
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_server_that_ignores_conditions_is_refused(s3: S3Server, tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    driver = StorageDriver("s3", "bucket", regionendpoint=f"http://127.0.0.1:{server.server_port}")
    try:
        with pytest.raises(StoreNotShareable, match="ignores the conditions of a PUT"):
            Store.open(tmp_path / "local", remote=RemoteStorage(driver))
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        pytest.param({"bucket": "missing"}, StoreMissing, "there is no bucket 'missing'", id="no bucket"),
        pytest.param(
            {"regionendpoint": "http://127.0.0.1:9"}, StoreUnreachable, "does not answer", id="nobody there"
        ),
    ],
)
def test_a_bucket_that_cannot_be_used_is_one_sentence(
    s3: S3Server, tmp_path: Path, change: dict[str, str], error: type[StoreError], said: str
) -> None:
    driver = StorageDriver("s3", "bucket", regionendpoint=s3.url, limits=RetryLimits(1, 2.0, 0.01))
    remote = RemoteStorage(replace(driver, **change))  # type: ignore[arg-type]  # any of its fields
    with pytest.raises(error, match=said) as found:
        Store.open(tmp_path / "local", remote=remote)
    assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in str(found.value)


@pytest.mark.parametrize(
    ("locks", "said"),
    [
        pytest.param({"locks_file": "/nowhere/url"}, "/nowhere/url .* cannot be read", id="no file"),
        pytest.param({"locks_variable": "NOT_SET"}, "variable NOT_SET .* is empty", id="no variable"),
    ],
)
def test_locks_that_cannot_be_had_are_an_error_and_not_local_ones(
    remote: RemoteStorage, tmp_path: Path, locks: dict[str, str], said: str
) -> None:
    with pytest.raises(StoreError, match=said):
        Store.open(tmp_path / "local", remote=RemoteStorage(remote.driver, **locks))  # type: ignore[arg-type]


def test_a_subpath_stays_a_folder(remote: RemoteStorage, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "local", remote=remote, subpaths={"/kube": tmp_path / "kube"})
    tag_image(store.repository(RepositoryName("kube/proxy")), "1", b"layer")
    tag_image(store.repository(NAME), "1", b"layer")
    assert (tmp_path / "kube/repos/kube/proxy/_r/tags/1").is_file()
    assert store.repositories() == ["kube/proxy", NAME]
    assert store.repository(NAME).tags() == ["1"]


def test_what_says_where_it_is_survives_the_command_line(remote: RemoteStorage) -> None:
    assert RemoteStorage.from_json(remote.to_json()) == remote
    with pytest.raises(StoreError, match="does not say where the store is"):
        RemoteStorage.from_json('{"driver": {"name": "s3"}}')
