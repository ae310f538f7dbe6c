"""Pulls on demand into a store in object storage: streamed while they arrive, sent to the bucket later."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from registry_server.http.server_process import running_server
from registry_server.oci.reference import RepositoryName
from registry_server.store.remote_storage import RemoteStorage
from tests.on_demand.mirrors import document, mirroring
from tests.support.object_storage import ENVIRONMENT, running_s3
from tests.support_misbehaving import Misbehaving, misbehaving, well_behaved
from tests.tasks.runs import assert_complete, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.on_demand.mirrors import Mirror
    from tests.support.object_storage import S3Server
    from tests.support_misbehaving import Exchange

LAYER = bytes(range(256)) * 40_000  # 10 MB: more than one part of an upload
HALF = 3_000_000
NAME = RepositoryName("library/big")
MANIFEST = "/v2/library/big/manifests/1"


@dataclass
class InTwoParts:
    """A blob whose second part comes when the test says so."""

    content: bytes
    rest: threading.Event

    def __call__(self, exchange: Exchange) -> None:
        exchange.answer(200, b"", {"Content-Length": str(len(self.content))})
        exchange.write(self.content[:HALF])
        self.rest.wait(20)
        exchange.write(self.content[HALF:])


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        server.make_bucket("bucket")
        yield server


@pytest.fixture
def storage(s3: S3Server, tmp_path: Path) -> dict[str, Any]:
    driver = {"name": "s3", "bucket": "bucket", "rootdirectory": tmp_path.name, "regionendpoint": s3.url}
    return {"storageDriver": driver}


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def remote_of(mirror: Mirror) -> RemoteStorage:
    """What other servers of the same store are started with."""
    objects: Any = mirror.store.roots[0].objects
    return RemoteStorage(objects._bucket.driver, redirect_seconds=60.0)


def test_a_layer_is_streamed_while_it_arrives_and_then_comes_from_the_bucket(
    tmp_path: Path, upstream: Misbehaving, storage: dict[str, Any]
) -> None:
    path = f"/v2/library/big/blobs/{upstream.add_image('library/big', '1', layers=(LAYER,)).layers[0].digest}"
    rest = threading.Event()
    upstream.on(path, InTwoParts(LAYER, rest), well_behaved)
    with (
        mirroring(tmp_path, document(f"http://{upstream.host}"), **storage) as mirror,
        ThreadPoolExecutor(4) as clients,
    ):
        assert mirror.client.get(MANIFEST).status_code == 200
        with mirror.client.stream("GET", path) as answer:
            chunks = answer.iter_bytes(HALF // 2)
            first = next(chunks)
            assert visible(mirror.store) == []
            late = [
                clients.submit(
                    httpx.get, mirror.url + path, headers=headers, timeout=20, follow_redirects=True
                )
                for headers in ({}, {"Range": "bytes=2999990-3000010"}, {"Range": "bytes=-5"})
            ]
            rest.set()
            assert first + b"".join(chunks) == LAYER
        assert [each.result().content for each in late] == [LAYER, LAYER[2_999_990:3_000_011], LAYER[-5:]]
        mirror.work.wait()
        assert_complete(mirror.store, "library/big:1")
        assert len(upstream.requests("GET", "/blobs/" + path.rpartition("/")[2])) == 1
        answer = mirror.client.get(path)
        assert answer.status_code == 307, "it is in the bucket now"
        assert httpx.get(answer.headers["Location"]).content == LAYER
        assert list((mirror.store.root / "incoming").iterdir()) == []


def test_another_server_without_a_receiver_hands_out_what_is_in_the_bucket(
    tmp_path: Path, upstream: Misbehaving, storage: dict[str, Any]
) -> None:
    image = upstream.add_image("library/big", "1", layers=(LAYER,))
    path = f"/v2/library/big/blobs/{image.layers[0].digest}"
    with mirroring(tmp_path, document(f"http://{upstream.host}"), **storage) as mirror:
        mirror.client.get(MANIFEST)
        mirror.work.wait()
        with running_server(tmp_path / "other", remote=remote_of(mirror)) as url:
            assert httpx.get(f"{url}{MANIFEST}").status_code == 200
            assert httpx.get(f"{url}{path}", follow_redirects=True).content == LAYER


def test_a_wrong_digest_is_a_broken_connection_and_nothing_in_the_bucket(
    tmp_path: Path, upstream: Misbehaving, storage: dict[str, Any]
) -> None:
    image = upstream.add_image("library/big", "1", layers=(LAYER,))
    path = f"/v2/library/big/blobs/{image.layers[0].digest}"
    rest = threading.Event()
    upstream.on(path, InTwoParts(LAYER[:-1] + b"!", rest), well_behaved)
    with mirroring(tmp_path, document(f"http://{upstream.host}"), **storage) as mirror:
        assert mirror.client.get(MANIFEST).status_code == 200
        with mirror.client.stream("GET", path) as answer:
            assert answer.status_code == 200
            rest.set()
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()
        mirror.work.wait()
        assert visible(mirror.store) == []
        assert not mirror.store.repository(NAME).pool_holds(image.layers[0].digest)
