"""A local file that becomes an object, and is uploaded while it is still being written."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.store.errors import StoreError, StoreUnreachable
from registry_server.store.objects.file_parts import FileParts, UploadSlots
from tests.support import s3_trouble as trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_server.store.objects.object_storage import ObjectStorage
    from registry_server.store.objects.objects import Objects, Upload
    from registry_server.store.objects.storage_driver import StorageDriver
    from tests.support.object_storage import S3Server
    from tests.support.s3_trouble import TroubledS3

HERE = Path(__file__).resolve().parents[4]
PART = 8 << 20
KEY = "blobs/x"
BYTES = random.Random(1).randbytes(2 * PART + 5)  # noqa: S311 - repeatable, and not secret


class Spooled:
    """A local file that grows, and its upload."""

    def __init__(self, path: Path, upload: Upload) -> None:
        self.path, self.upload = path, upload
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.written = 0

    def write(self, content: bytes) -> Spooled:
        for begin in range(0, len(content), 1 << 20):
            piece = content[begin : begin + (1 << 20)]
            os.pwrite(self.fd, piece, self.written)
            self.written += len(piece)
            self.upload.feed(self.fd, self.written)
        return self

    def complete(self) -> float:
        return self.upload.complete(str(self.path), self.fd)

    def close(self) -> None:
        self.upload.abort()
        os.close(self.fd)


class Spool:
    """Makes them, and closes them at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, list[Spooled]()

    def file(self, objects: Objects, size: int, key: str = KEY) -> Spooled:
        name = f"spooled-{len(self._made)}"
        self._made.append(Spooled(self._folder / name, objects.upload(key, size)))
        return self._made[-1]

    def close(self) -> None:
        for each in self._made:
            each.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    found = Spool(tmp_path)
    try:
        yield found
    finally:
        found.close()


def content_of(objects: Objects, key: str = KEY) -> bytes:
    return b"".join(objects.pieces(key))


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 5])
def test_a_file_of_any_size_appears_once_it_is_complete(objects: Objects, spool: Spool, size: int) -> None:
    file = spool.file(objects, size).write(BYTES[:size])
    assert objects.look(KEY) is None
    file.complete()
    assert not file.path.exists()
    assert content_of(objects) == BYTES[:size]


def test_a_file_that_was_there_already_is_completed_without_being_fed(objects: Objects, spool: Spool) -> None:
    file = spool.file(objects, len(BYTES))
    file.path.write_bytes(BYTES)
    file.complete()
    assert content_of(objects) == BYTES


def test_of_an_aborted_upload_nothing_appears(objects: Objects, spool: Spool) -> None:
    file = spool.file(objects, len(BYTES)).write(BYTES)
    file.upload.abort()
    file.upload.abort()
    assert objects.look(KEY) is None
    assert file.path.exists()


def test_an_abort_after_the_end_changes_nothing(objects: Objects, spool: Spool) -> None:
    file = spool.file(objects, len(BYTES)).write(BYTES)
    file.complete()
    file.upload.abort()
    assert content_of(objects) == BYTES


def test_of_two_uploads_of_one_key_each_has_its_own_parts(objects: Objects, spool: Spool) -> None:
    """One of them may have wrong bytes: nobody knows before its end."""
    right = spool.file(objects, len(BYTES)).write(BYTES[:PART])
    wrong = spool.file(objects, len(BYTES)).write(bytes(2 * PART))
    right.write(BYTES[PART:])
    wrong.write(bytes(5))
    right.complete()
    wrong.upload.abort()
    assert content_of(objects) == BYTES


def test_parts_are_uploaded_while_the_file_grows(
    remote: ObjectStorage, network: TroubledS3, spool: Spool
) -> None:
    arrived = threading.Event()

    def see(method: str, number: int) -> str:
        if method == "PUT" and number == 1:
            arrived.set()
        return ""

    network.plan = see
    file = spool.file(remote, len(BYTES)).write(BYTES[: 2 * PART])
    assert arrived.wait(30)
    assert remote.look(KEY) is None
    file.write(BYTES[2 * PART :])
    file.complete()
    assert content_of(remote) == BYTES
    assert network.seen.count("PUT") == 3


def test_an_aborted_upload_leaves_no_parts(remote: ObjectStorage, s3: S3Server, spool: Spool) -> None:
    file = spool.file(remote, len(BYTES)).write(BYTES)
    file.upload.abort()
    assert s3.uploads("bucket") == 0


def test_what_failed_while_the_file_arrived_is_uploaded_again(
    remote: ObjectStorage, network: TroubledS3, s3: S3Server, spool: Spool
) -> None:
    failed = threading.Event()

    def fail(method: str, _number: int) -> str:
        if method == "DELETE":
            failed.set()  # the upload was given up
        return "" if failed.is_set() else trouble.BROKEN if method == "PUT" else ""

    network.plan = fail
    file = spool.file(remote, len(BYTES)).write(BYTES[: 2 * PART])
    assert failed.wait(30)
    file.write(BYTES[2 * PART :])
    file.complete()
    assert content_of(remote) == BYTES
    assert network.seen.count("DELETE") == 1  # the first upload
    assert s3.uploads("bucket") == 0


def test_an_upload_that_fails_again_says_so_and_keeps_the_file(
    remote: ObjectStorage, network: TroubledS3, s3: S3Server, spool: Spool
) -> None:
    network.plan = lambda method, _number: trouble.BROKEN if method == "PUT" else ""
    file = spool.file(remote, len(BYTES)).write(BYTES)
    with pytest.raises(StoreUnreachable, match=r"/blobs/x: .* does not answer as it should"):
        file.complete()
    assert file.path.read_bytes() == BYTES
    network.plan = lambda _method, _number: ""
    assert remote.look(KEY) is None
    assert s3.uploads("bucket") == 0


def test_uploads_that_wait_for_their_files_keep_nobody_from_uploading(
    remote: ObjectStorage, spool: Spool
) -> None:
    waiting = [spool.file(remote, 2 * PART, f"blobs/{number}") for number in range(12)]
    for file in waiting:
        file.write(BYTES[:PART])
    spool.file(remote, len(BYTES)).write(BYTES).complete()
    assert content_of(remote) == BYTES
    for file in waiting:
        file.write(BYTES[PART : 2 * PART])
        file.complete()
    assert {key for key, _ in remote.walk("blobs")} == {KEY, *(f"blobs/{number}" for number in range(12))}


MEMORY = """
import os, sys
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.objects.storage_driver import StorageDriver
objects = ObjectStorage(StorageDriver("s3", "bucket", sys.argv[1], regionendpoint=sys.argv[2]))
size, fd = int(sys.argv[4]), os.open(sys.argv[3], os.O_RDWR | os.O_CREAT)
upload, piece = objects.upload("blobs/x", size), os.urandom(1 << 20)
for begin in range(0, size, len(piece)):
    os.pwrite(fd, piece, begin)
    upload.feed(fd, begin + len(piece))
upload.complete(sys.argv[3], fd)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def test_the_memory_that_an_upload_takes_does_not_grow_with_the_file(
    driver: StorageDriver, s3: S3Server, tmp_path: Path
) -> None:
    def peak(size: int) -> int:
        arguments = [driver.rootdirectory, s3.url, str(tmp_path / "spooled"), str(size)]
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *arguments], cwd=HERE, capture_output=True, text=True, check=True
        )
        return int(done.stdout) << 10

    assert peak(40 * PART) < peak(2 * PART) + 5 * PART


# The parts of a file


class Waits(Exception):
    """Who reads the parts would wait."""


class Impatient(threading.Condition):
    """Says so instead of waiting. `then` is called once when it is left."""

    then: Callable[[], object] | None = None

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        if not predicate():
            raise Waits
        return super().wait_for(predicate, timeout)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[arg-type] # as it was given
        then, self.then = self.then, None
        if then is not None:
            then()


class Reading:
    """The pieces of a file, read by this thread."""

    def __init__(self, fd: int, size: int) -> None:
        self.slots, self.changed = UploadSlots(1), Impatient()
        self.slots.changed = self.changed
        self.parts = FileParts("x", size, self.slots)
        self.pieces = self.parts.pieces(fd)

    def until_it_waits(self) -> int:
        """How many bytes there are."""
        found = 0
        try:
            for piece in self.pieces:
                found += len(piece)
        except Waits:
            return found
        raise AssertionError("it did not wait")


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    """Of a file of two parts."""
    path = tmp_path / "file"
    path.write_bytes(BYTES[: 2 * PART])
    with path.open("rb") as file:
        yield Reading(file.fileno(), 2 * PART)


@pytest.mark.parametrize(
    ("written", "readable"),
    [(0, 0), (PART - 1, 0), (PART, PART), (2 * PART - 1, PART), (2 * PART, PART)],
)
def test_a_part_is_read_once_it_is_there_and_the_last_one_once_all_is_verified(
    reading: Reading, written: int, readable: int
) -> None:
    reading.parts.grown(written)
    assert reading.until_it_waits() == readable


def test_a_part_waits_for_a_slot(reading: Reading) -> None:
    reading.parts.verified()
    reading.slots.free = 0
    assert reading.until_it_waits() == 0


def test_what_is_read_after_an_abort_is_not_given_on(reading: Reading) -> None:
    """The file may be closed by then, and its number be that of another file."""
    reading.parts.verified()
    next(reading.pieces)
    reading.changed.then = reading.parts.abort  # once there is no more to wait for, and before it reads
    with pytest.raises(StoreError, match="x: the upload was aborted"):
        next(reading.pieces)


@pytest.mark.parametrize("end", ["all", "abort", "close"])
def test_a_slot_is_given_back_at_the_end(reading: Reading, end: str) -> None:
    reading.parts.verified()
    next(reading.pieces)
    assert reading.slots.free == 0
    if end == "all":
        assert sum(map(len, reading.pieces)) == 2 * PART - (1 << 20)
    elif end == "abort":
        reading.parts.abort()
        with pytest.raises(StoreError):
            next(reading.pieces)
    else:
        del reading.pieces
    assert reading.slots.free == 1


def test_who_waits_for_a_part_has_no_slot(reading: Reading) -> None:
    reading.parts.grown(PART)
    assert reading.until_it_waits() == PART
    assert reading.slots.free == 1
