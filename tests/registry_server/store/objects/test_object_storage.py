"""Object storage: uploads that end early, presigned URLs, what requests cost, and forked processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_server.store.errors import StoreError, StoreUnreachable
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.objects.storage_driver import StorageDriver
from tests.support import s3_trouble as trouble
from tests.support.object_storage import SECRET_KEY
from tests.support_behaviours import answers, truncated
from tests.support_misbehaving import misbehaving

if TYPE_CHECKING:
    from tests.support.object_storage import S3Server
    from tests.support.s3_trouble import TroubledS3

HERE = Path(__file__).resolve().parents[4]


def test_an_upload_that_fails_leaves_nothing(
    remote: ObjectStorage, network: TroubledS3, s3: S3Server, tmp_path: Path
) -> None:
    path = tmp_path / "spooled"
    path.write_bytes(os.urandom(20 << 20))
    network.plan = lambda method, number: trouble.BROKEN if method == "PUT" and number else ""
    fd = os.open(path, os.O_RDWR)
    with pytest.raises(StoreUnreachable):
        remote.take_in("blobs/x", str(path), fd)
    os.close(fd)
    assert path.exists()
    network.plan = lambda _method, _number: ""
    assert remote.look("blobs/x") is None
    assert s3.uploads("bucket") == 0


def test_an_upload_of_a_file_that_becomes_shorter_leaves_nothing(
    remote: ObjectStorage, network: TroubledS3, tmp_path: Path
) -> None:
    path = tmp_path / "spooled"
    path.write_bytes(os.urandom(80 << 20))
    fd = os.open(path, os.O_RDWR)

    def cut(method: str, number: int) -> str:
        if method == "PUT" and number == 0:
            os.truncate(path, 1 << 20)
        return ""

    network.plan = cut
    with pytest.raises(StoreError, match="became shorter"):
        remote.take_in("blobs/x", str(path), fd)
    os.close(fd)
    assert remote.look("blobs/x") is None


UPLOAD = """
import os, sys
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.objects.storage_driver import StorageDriver
objects = ObjectStorage(StorageDriver("s3", "bucket", sys.argv[1], regionendpoint=sys.argv[2]))
print("ready", flush=True)
objects.take_in("blobs/x", sys.argv[3], os.open(sys.argv[3], os.O_RDWR))
"""


def test_an_upload_whose_process_is_killed_is_never_seen(
    remote: ObjectStorage, driver: StorageDriver, network: TroubledS3, tmp_path: Path
) -> None:
    path = tmp_path / "spooled"
    path.write_bytes(os.urandom(40 << 20))
    network.delay = 0.2
    with subprocess.Popen(
        [sys.executable, "-c", UPLOAD, driver.rootdirectory, network.url, str(path)],
        cwd=HERE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        while network.seen.count("PUT") < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    network.delay = 0.0
    assert remote.look("blobs/x") is None
    assert [*remote.walk("blobs")] == []


def test_a_presigned_url_can_be_read_by_anybody_in_parts(remote: ObjectStorage, s3: S3Server) -> None:
    remote.put("blobs/x", b"0123456789")
    url = remote.url("blobs/x", 60)
    assert url is not None
    assert SECRET_KEY not in url
    with urllib.request.urlopen(url) as response:
        assert response.read() == b"0123456789"
    part = urllib.request.Request(url, headers={"Range": "bytes=3-5"})
    with urllib.request.urlopen(part) as response:
        assert (response.status, response.read()) == (206, b"345")


def test_an_unchanged_object_is_parsed_without_being_sent_again(
    remote: ObjectStorage, network: TroubledS3
) -> None:
    remote.put("a", b"x" * 1000)
    first = remote.parsed("a", bytes.decode)
    network.seen.clear()
    assert remote.parsed("a", bytes.decode) is first
    assert network.seen == ["GET"]


def test_contents_that_did_not_change_cost_one_listing(remote: ObjectStorage, network: TroubledS3) -> None:
    for number in range(20):
        remote.put(f"tags/{number}", b"content")
    before = dict(remote.contents("tags"))
    network.seen.clear()
    assert dict(remote.contents("tags")) == before
    assert network.seen == ["GET"]


def test_a_page_costs_one_request_however_many_names_there_are(
    remote: ObjectStorage, network: TroubledS3
) -> None:
    remote.mark(*(f"tags/{number:04}" for number in range(2_100)))
    network.seen.clear()
    assert remote.page("tags", bool, last="0050", limit=3) == ["0051", "0052", "0053"]
    assert network.seen == ["GET"]


def test_several_removals_cost_one_request(remote: ObjectStorage, network: TroubledS3) -> None:
    remote.mark(*(f"m/{number}" for number in range(50)))
    network.seen.clear()
    remote.remove(*(f"m/{number}" for number in range(50)))
    assert network.seen == ["POST"]


FORK = """
import os, sys
from registry_server.store.errors import StoreError
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.objects.storage_driver import StorageDriver
objects = ObjectStorage(StorageDriver("s3", "bucket", sys.argv[1], regionendpoint=sys.argv[2]))
if sys.argv[3] == "used":
    objects.get("a")
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
try:
    objects.put("a", b"of the child")
except StoreError as error:
    print(error, flush=True)
os._exit(0)
"""


def forked(driver: StorageDriver, network: TroubledS3, how: str) -> str:
    program = [sys.executable, "-c", FORK, driver.rootdirectory, network.url, how]
    done = subprocess.run(program, cwd=HERE, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_child_that_is_forked_before_the_first_use_works(
    remote: ObjectStorage, driver: StorageDriver, network: TroubledS3
) -> None:
    assert forked(driver, network, "unused") == ""
    assert (found := remote.get("a")) is not None
    assert found.content == b"of the child"


def test_a_child_that_is_forked_after_the_first_use_says_so_instead_of_waiting_for_ever(
    driver: StorageDriver, network: TroubledS3
) -> None:
    assert "open the store in the child only" in forked(driver, network, "used")


def test_an_object_that_is_removed_while_its_connection_breaks_is_not_just_shorter() -> None:
    """obstore asks again for the rest."""
    stamp = {"ETag": '"x"', "Last_Modified": "Mon, 30 Nov 2026 21:00:00 GMT"}
    gone = answers(404, b"<Error><Code>NoSuchKey</Code></Error>")
    with misbehaving() as server:
        server.on("/bucket/key", truncated(bytes(3 << 20), 1 << 20, **stamp), gone)
        objects = ObjectStorage(StorageDriver("s3", "bucket", regionendpoint=f"http://{server.host}"))
        with pytest.raises(FileNotFoundError, match="s3://bucket/key"):
            list(objects.pieces("key"))
