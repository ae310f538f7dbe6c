"""Blobs that are uploaded into a bucket while they arrive: every way to end, and what is seen of them."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.errors import DigestMismatch, SizeMismatch
from registry_server.oci.reference import RepositoryName
from registry_server.store.errors import StoreUnreachable
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.pool.blob_pool import blob_key, file_name
from registry_server.store.pool.tombstones import Tombstones
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store
from tests.registry_server.store.images import layer
from tests.support import s3_trouble as trouble

if TYPE_CHECKING:
    from registry_server.store.objects.storage_driver import StorageDriver
    from registry_server.store.repository import Repository
    from registry_server.store.spool.incoming_blob import IncomingBlob
    from tests.support.object_storage import S3Server
    from tests.support.s3_trouble import TroubledS3

HERE = Path(__file__).resolve().parents[4]
PIECE = 1 << 20
PART = 8 << 20
CONTENT = random.Random(2).randbytes(2 * PART + 5)  # noqa: S311 - repeatable, and not secret
BLOB = layer(CONTENT)
NGINX = RepositoryName("library/nginx")


@pytest.fixture
def store(driver: StorageDriver, tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", remote=RemoteStorage(driver))


@pytest.fixture
def nginx(store: Store, network: TroubledS3) -> Repository:
    network.seen.clear()
    return store.repository(NGINX)


def write(incoming: IncomingBlob, content: bytes) -> None:
    for begin in range(0, len(content), PIECE):
        incoming.write(content[begin : begin + PIECE])


def receive(nginx: Repository, content: bytes = CONTENT) -> int:
    """Fill the blob from where it stands; the offset at which that was."""
    with nginx.receive_blob(BLOB) as incoming:
        start = incoming.offset
        if not incoming.complete:
            write(incoming, content[start:])
            incoming.commit()
    return start


def stored(store: Store) -> bytes | None:
    """What the bucket has of the blob."""
    objects = store.root_of(NGINX).objects
    return b"".join(objects.pieces(blob_key(BLOB.digest))) if objects.look(blob_key(BLOB.digest)) else None


def spooled(store: Store) -> Path:
    return store.root / "incoming" / file_name(BLOB.digest)


def wait_for_parts(network: TroubledS3, number: int) -> None:
    deadline = time.monotonic() + 30
    while network.seen.count("PUT") < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_parts_are_uploaded_before_the_blob_is_whole(
    store: Store, nginx: Repository, network: TroubledS3
) -> None:
    with nginx.receive_blob(BLOB) as incoming:
        write(incoming, CONTENT[: 2 * PART])
        wait_for_parts(network, 2)
        assert stored(store) is None
        write(incoming, CONTENT[2 * PART :])
        assert stored(store) is None
        incoming.commit()
    assert stored(store) == CONTENT
    assert nginx.has_blob(BLOB.digest)
    assert not spooled(store).exists()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(bytes(len(CONTENT)), DigestMismatch, id="wrong-digest"),
        pytest.param(CONTENT + b"!", SizeMismatch, id="too-long"),
    ],
)
def test_of_wrong_bytes_nothing_appears(
    store: Store, nginx: Repository, s3: S3Server, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        receive(nginx, content)
    assert stored(store) is None
    assert s3.uploads("bucket") == 0
    assert receive(nginx) == 0
    assert stored(store) == CONTENT


def test_a_blob_that_ends_with_a_part_is_not_seen_before_its_digest_was_checked(
    store: Store, nginx: Repository, network: TroubledS3, s3: S3Server
) -> None:
    blob = layer(CONTENT[: 2 * PART])
    with nginx.receive_blob(blob) as incoming:
        write(incoming, bytes(2 * PART))
        wait_for_parts(network, 1)
        assert store.root_of(NGINX).objects.look(blob_key(blob.digest)) is None
        with pytest.raises(DigestMismatch):
            incoming.commit()
    assert store.root_of(NGINX).objects.look(blob_key(blob.digest)) is None
    assert s3.uploads("bucket") == 0


def test_of_a_short_body_nothing_appears_and_the_next_writer_goes_on(
    store: Store, nginx: Repository, s3: S3Server
) -> None:
    with pytest.raises(SizeMismatch):
        receive(nginx, CONTENT[: PART + 7])
    assert stored(store) is None
    assert s3.uploads("bucket") == 0
    assert receive(nginx) == PART + 7
    assert stored(store) == CONTENT


def test_who_is_cancelled_leaves_no_parts(store: Store, nginx: Repository, s3: S3Server) -> None:
    def cancelled() -> None:
        with nginx.receive_blob(BLOB) as incoming:
            write(incoming, CONTENT)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cancelled()
    assert stored(store) is None
    assert s3.uploads("bucket") == 0
    assert receive(nginx) == len(CONTENT)
    assert stored(store) == CONTENT


def test_starting_over_begins_another_upload(store: Store, nginx: Repository, s3: S3Server) -> None:
    with nginx.receive_blob(BLOB) as incoming:
        write(incoming, bytes(len(CONTENT)))
        incoming.restart()
        assert s3.uploads("bucket") == 0
        write(incoming, CONTENT)
        incoming.commit()
    assert stored(store) == CONTENT
    assert s3.uploads("bucket") == 0


def test_leftovers_that_are_wrong_are_not_uploaded(store: Store, nginx: Repository, s3: S3Server) -> None:
    spooled(store).write_bytes(bytes(len(CONTENT)))
    assert receive(nginx) == 0
    assert stored(store) == CONTENT
    assert s3.uploads("bucket") == 0


WRITER = """
import sys, time
from tests.registry_server.store.objects.test_arriving_blobs import *
from registry_server.store.objects.storage_driver import StorageDriver
driver = StorageDriver("s3", "bucket", sys.argv[1], regionendpoint=sys.argv[2])
store = Store.open(Path(sys.argv[3]), remote=RemoteStorage(driver))
with store.repository(NGINX).receive_blob(BLOB) as incoming:
    write(incoming, CONTENT[:2 * PART])
    print("written", flush=True)
    time.sleep(600)
"""


def test_of_a_writer_that_is_killed_nothing_appears_and_the_next_goes_on(
    store: Store, nginx: Repository, driver: StorageDriver, network: TroubledS3
) -> None:
    arguments = [driver.rootdirectory, network.url, str(store.root)]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments], cwd=HERE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        wait_for_parts(network, 2)
        process.send_signal(signal.SIGKILL)
    assert stored(store) is None
    assert receive(nginx) == 2 * PART
    assert stored(store) == CONTENT


def test_a_bucket_that_fails_is_told_and_costs_no_second_download(
    store: Store, nginx: Repository, network: TroubledS3
) -> None:
    network.plan = lambda method, _number: trouble.BROKEN if method == "PUT" else ""
    with pytest.raises(StoreUnreachable, match="InternalError 500"):
        receive(nginx)
    network.plan = lambda _method, _number: ""
    assert stored(store) is None
    with nginx.receive_blob(BLOB) as incoming:
        assert incoming.complete
    assert stored(store) == CONTENT


def test_a_bucket_that_dies_while_a_blob_arrives_does_not_stop_its_arrival(
    store: Store, nginx: Repository, network: TroubledS3
) -> None:
    with nginx.receive_blob(BLOB) as incoming:
        write(incoming, CONTENT[:PART])
        network.plan = lambda _method, _number: trouble.UNHEARD
        write(incoming, CONTENT[PART:])
        assert incoming.offset == len(CONTENT)
        network.plan = lambda _method, _number: ""
        incoming.commit()
    assert stored(store) == CONTENT


# Amazon gives an object the time at which its upload began: a collector may take it for an old one.


@pytest.fixture
def trash(store: Store, monkeypatch: pytest.MonkeyPatch) -> Tombstones:
    """Of a store for which every upload is a long one."""
    trash = store.root_of(NGINX).pool.trash
    assert isinstance(trash, Tombstones)
    monkeypatch.setattr(trash, "spared_seconds", 0.0)
    return trash


def test_a_blob_that_is_to_be_collected_once_its_long_upload_has_ended_stays(
    nginx: Repository, trash: Tombstones
) -> None:
    trash.take({BLOB.digest})
    receive(nginx)
    assert [*trash.content()] == []
    assert nginx.has_blob(BLOB.digest)


@pytest.mark.usefixtures("trash")
def test_a_blob_that_was_collected_once_its_long_upload_had_ended_is_not_relied_on(
    store: Store, nginx: Repository, driver: StorageDriver, network: TroubledS3, s3: S3Server
) -> None:
    direct = ObjectStorage(replace(driver, regionendpoint=s3.url))

    def collect(method: str, _number: int) -> str:
        if method == "HEAD" and network.seen.count("PUT") >= 3:
            direct.remove(blob_key(BLOB.digest))
        return ""

    network.plan = collect
    with pytest.raises(StoreUnreachable, match=r"was collected .* set storage\.gcDelay to more"):
        receive(nginx)
    network.plan = lambda _method, _number: ""
    assert not nginx.has_blob(BLOB.digest)
    assert receive(nginx) == 0
    assert stored(store) == CONTENT
