"""Pulling from a store in object storage: streamed by the server, or by way of an address in the bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.http.server_process import ServerFailed, running_server
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.objects.storage_driver import StorageDriver
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store
from tests.registry_server.store.images import layer, tag_image
from tests.support.object_storage import ENVIRONMENT, running_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.object_storage import S3Server

NAME = RepositoryName("library/app")
LAYER = bytes(range(256)) * 20_000  # 5 MB: several pieces
BLOB = f"/v2/{NAME}/blobs/{layer(LAYER).digest}"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        server.make_bucket("bucket")
        yield server


def remote(s3: S3Server, seconds: float = 0.0) -> RemoteStorage:
    return RemoteStorage(StorageDriver("s3", "bucket", "p", regionendpoint=s3.url), redirect_seconds=seconds)


@pytest.fixture(scope="module")
def store(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Store:
    found = Store.open(tmp_path_factory.mktemp("mirror") / "spool", remote=remote(s3))
    tag_image(found.repository(NAME), "1", LAYER, b"")
    return found


@pytest.fixture(scope="module")
def client(store: Store, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a server that streams."""
    folder = tmp_path_factory.mktemp("streaming") / "spool"
    with running_server(folder, remote=remote(s3)) as url, httpx.Client(base_url=url) as found:
        yield found


@pytest.fixture(scope="module")
def sent_on(store: Store, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a server that sends clients to the bucket."""
    folder = tmp_path_factory.mktemp("redirecting") / "spool"
    with running_server(folder, remote=remote(s3, 60.0)) as url, httpx.Client(base_url=url) as found:
        yield found


def test_a_manifest_comes_with_its_exact_bytes_and_type(store: Store, client: httpx.Client) -> None:
    descriptor, body = store.repository(NAME).read_manifest(Tag("1"))
    for reference in ("1", descriptor.digest):
        answer = client.get(f"/v2/{NAME}/manifests/{reference}")
        assert (answer.content, answer.headers["Content-Type"]) == (body, descriptor.media_type)
        assert client.head(f"/v2/{NAME}/manifests/{reference}").headers["Content-Length"] == str(len(body))
    assert client.get(f"/v2/{NAME}/tags/list").json()["tags"] == ["1"]
    assert client.get("/v2/_catalog").json() == {"repositories": [NAME]}


def test_a_blob_is_streamed(client: httpx.Client) -> None:
    answer = client.get(BLOB)
    assert (answer.status_code, answer.content) == (200, LAYER)
    assert answer.headers["Content-Length"] == str(len(LAYER))
    assert client.get(f"/v2/{NAME}/blobs/{layer(b'').digest}").content == b""


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        pytest.param("bytes=0-0", 0, 1, id="the first byte"),
        pytest.param("bytes=1000000-3999999", 1_000_000, 4_000_000, id="the middle"),
        pytest.param("bytes=-10", len(LAYER) - 10, len(LAYER), id="the end"),
    ],
)
def test_a_range_is_streamed(client: httpx.Client, asked: str, start: int, stop: int) -> None:
    answer = client.get(BLOB, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, LAYER[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(LAYER)}"


def test_head_says_the_size_and_sends_nobody_away(client: httpx.Client, sent_on: httpx.Client) -> None:
    for each in (client, sent_on):
        answer = each.head(BLOB)
        assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(LAYER)))


def test_a_client_is_sent_to_an_address_that_needs_no_credentials(sent_on: httpx.Client) -> None:
    answer = sent_on.get(BLOB)
    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["Cache-Control"] == "no-store", "the address is good for a minute only"
    address = answer.headers["Location"]
    assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in address
    assert httpx.get(address).content == LAYER
    assert httpx.get(address, headers={"Range": "bytes=5-9"}).content == LAYER[5:10]


def test_a_part_that_no_blob_has_is_refused_before_anybody_is_sent_away(sent_on: httpx.Client) -> None:
    assert sent_on.get(BLOB, headers={"Range": f"bytes={len(LAYER)}-"}).status_code == 416


def test_who_has_the_blob_is_told_so_and_not_sent_away(sent_on: httpx.Client) -> None:
    tag = sent_on.head(BLOB).headers["ETag"]
    assert sent_on.get(BLOB, headers={"If-None-Match": tag}).status_code == 304


def test_a_digest_of_another_repository_is_no_right(store: Store, sent_on: httpx.Client) -> None:
    tag_image(store.repository(RepositoryName("library/other")), "1", b"other")
    assert sent_on.get(BLOB.replace(NAME, "library/other")).status_code == 404


def test_manifests_are_answered_and_not_sent_away(sent_on: httpx.Client) -> None:
    assert sent_on.get(f"/v2/{NAME}/manifests/1").status_code == 200


def test_a_bucket_that_is_not_there_ends_the_server_with_one_sentence(s3: S3Server, tmp_path: Path) -> None:
    lost = RemoteStorage(StorageDriver("s3", "missing", regionendpoint=s3.url))
    with (
        pytest.raises(ServerFailed, match="there is no bucket 'missing'"),
        running_server(tmp_path, remote=lost),
    ):
        pass


def test_several_workers_each_open_the_store(store: Store, s3: S3Server, tmp_path: Path) -> None:
    with running_server(tmp_path / "spool", remote=remote(s3), workers=2) as url:
        for _ in range(8):  # a connection of its own each time: sooner or later each worker
            assert httpx.get(f"{url}{BLOB}").content == LAYER
