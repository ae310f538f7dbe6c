"""Sessions outlive the process that began them, and any worker takes any request."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch
from registry_server.oci.reference import RepositoryName
from registry_server.store.spool.upload_session_files import UploadUnknown
from registry_server.store.store import Store
from tests.registry_server.http.pushing import begin, finish, patch, push_image
from tests.support.registries import running_registry
from tests.support.stored_files import file_of
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from registry_server.store.spool.upload_sessions import UploadSession

NAME = RepositoryName("library/nginx")
CONTENT = os.urandom(3_000_000)


def _workers(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_chunks_go_to_whichever_worker_is_free(tmp_path: Path) -> None:
    """A new connection for each request: with four workers, few sessions stay with one of them."""
    with running_registry(tmp_path, writable=True, workers=4) as registry:
        for _ in range(3):
            with httpx.Client(base_url=registry.url) as client:
                location = begin(client)
            for start in range(0, len(CONTENT), 500_000):
                with httpx.Client() as client:
                    answer = patch(client, location, CONTENT[start : start + 500_000], start=start)
                    assert answer.status_code == 202, answer.text
            with httpx.Client() as client:
                assert finish(client, location, Digest.of(CONTENT)).status_code == 201


def test_a_session_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    with running_registry(tmp_path, writable=True) as registry:
        path = begin(registry.client).removeprefix(registry.url)
        patch(registry.client, f"{registry.url}{path}", CONTENT[:1_000_000])
    with running_registry(tmp_path, writable=True) as registry:
        location = f"{registry.url}{path}"
        assert registry.client.get(location).headers["Range"] == "0-999999"
        assert patch(registry.client, location, CONTENT[1_000_000:], start=1_000_000).status_code == 202
        answer = finish(registry.client, location, Digest.of(CONTENT, "sha512"))
        assert answer.status_code == 201
        assert registry.client.get(answer.headers["Location"]).content == CONTENT


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_worker_is_killed_in_the_middle_of_a_chunk(tmp_path: Path) -> None:
    """What was acknowledged counts, the rest does not, and the next worker goes on."""
    with running_registry(tmp_path, writable=True) as registry:
        location = begin(registry.client)
        patch(registry.client, location, CONTENT[:1_000_000], start=0)
        data = registry.store.root / "uploads" / location.rpartition("/")[2] / "data"
        host, _, port = registry.host.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as sent:
            head = f"PATCH {location.removeprefix(registry.url)} HTTP/1.1\r\nHost: {host}\r\n"
            head += f"Content-Length: 2000000\r\nContent-Range: 1000000-{len(CONTENT) - 1}\r\n\r\n"
            sent.sendall(head.encode() + bytes(1_900_000))
            wait_for(lambda: data.stat().st_size > 1_000_000)
            for worker in _server_workers(registry.url):
                os.kill(worker, signal.SIGKILL)
        retrying = httpx.HTTPTransport(retries=10)
        with httpx.Client(transport=retrying, timeout=60) as client:
            wait_for(lambda: _answers(client, location))
            assert client.get(location).headers["Range"] == "0-999999"
            assert patch(client, location, CONTENT[1_000_000:], start=1_000_000).status_code == 202
            answer = finish(client, location, Digest.of(CONTENT))
            assert answer.status_code == 201
            assert client.get(f"{registry.url}{answer.headers['Location']}").content == CONTENT


def _answers(client: httpx.Client, location: str) -> bool:
    try:
        return client.get(location).status_code == 204
    except httpx.TransportError:
        return False


def _server_workers(url: str) -> list[int]:
    """The children of our child that listens at `url`."""
    port = f"{int(url.rpartition(':')[2]):04X}"
    inodes = {
        line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port}") and line.split()[3] == "0A"
    }  # fmt: skip
    (server,) = (pid for pid in _workers(os.getpid()) if _has_socket(pid, inodes))
    return _workers(server)


def _has_socket(pid: int, inodes: set[str]) -> bool:
    links = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]  # noqa: PTH115 - not a file
    return any(link == f"socket:[{inode}]" for link in links for inode in inodes)


_PUSHER = """
import sys
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from pathlib import Path
store, name = Store.open(Path(sys.argv[1])), RepositoryName(sys.argv[2])
for number in range(40):
    content = bytes([number]) * 100_000
    uploads = store.uploads(name)
    upload = uploads.open(name, uploads.begin(name))
    upload.write(content[:50_000])
    upload.publish()
    upload.write(content[50_000:])
    upload.commit(store.repository(name), Digest.of(content))
    upload.close()
"""


def test_four_processes_push_the_same_blobs(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", durability="none")
    names = ["a", "a", "b", "c"]
    children = [
        subprocess.Popen([sys.executable, "-c", _PUSHER, str(store.root), name], cwd=Path.cwd())
        for name in names
    ]
    assert [child.wait(120) for child in children] == [0] * 4
    for number in range(40):
        content = bytes([number]) * 100_000
        for name in set(names):
            found = store.repository(RepositoryName(name)).find_blob(Digest.of(content))
            assert found.read(1_000_000) == content
    assert list((store.root / "uploads").iterdir()) == []
    assert list((store.root / "staging").iterdir()) == []


def _opened(store: Store, session: str) -> UploadSession:
    found = store.uploads(NAME).open(NAME, session)
    assert found is not None
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", durability="none")


def test_what_was_not_published_is_gone(store: Store) -> None:
    session = store.uploads(NAME).begin(NAME)
    upload = _opened(store, session)
    upload.write(b"counts")
    upload.publish()
    upload.write(b" does not")
    upload.close()
    upload.close()
    again = _opened(store, session)
    assert again.offset == again.position == 6
    again.commit(store.repository(NAME), Digest.of(b"counts"))
    again.close()
    assert file_of(store.repository(NAME), Digest.of(b"counts")).read_bytes() == b"counts"


def test_one_at_a_time(store: Store) -> None:
    session = store.uploads(NAME).begin(NAME)
    first = _opened(store, session)
    assert store.uploads(NAME).open(NAME, session) is None
    assert Store.open(store.root).uploads(NAME).open(NAME, session) is None
    first.close()
    _opened(store, session).close()


def test_a_session_that_is_cancelled_under_a_writer_cannot_come_back(store: Store) -> None:
    session = store.uploads(NAME).begin(NAME)
    upload = _opened(store, session)
    upload.write(b"content")
    store.uploads(NAME).cancel(NAME, session)
    with pytest.raises(UploadUnknown):
        upload.publish()
    with pytest.raises(UploadUnknown):
        upload.commit(store.repository(NAME), Digest.of(b"content"))
    upload.close()
    assert not store.repository(NAME).has_blob(Digest.of(b"content"))
    assert list((store.root / "uploads").iterdir()) == []


def test_wrong_content_ends_the_session(store: Store) -> None:
    session = store.uploads(NAME).begin(NAME)
    upload = _opened(store, session)
    upload.write(b"content")
    with pytest.raises(DigestMismatch):
        upload.commit(store.repository(NAME), Digest.of(b"other content"))
    upload.close()
    with pytest.raises(UploadUnknown):
        store.uploads(NAME).state(NAME, session)
    assert not store.repository(NAME).pool_holds(Digest.of(b"content"))


def test_a_blob_in_the_pool_is_not_changed_by_what_the_session_does_next(store: Store) -> None:
    upload = _opened(store, store.uploads(NAME).begin(NAME))
    upload.write(b"content")
    upload.commit(store.repository(NAME), Digest.of(b"content"))
    upload.close()
    assert file_of(store.repository(NAME), Digest.of(b"content")).read_bytes() == b"content"


def test_a_power_cut_that_took_bytes_ends_the_session(store: Store) -> None:
    session = store.uploads(NAME).begin(NAME)
    upload = _opened(store, session)
    upload.write(b"content")
    upload.publish()
    upload.close()
    os.truncate(store.root / "uploads" / session / "data", 3)
    with pytest.raises(UploadUnknown):
        store.uploads(NAME).state(NAME, session)


def test_a_planted_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    session = store.uploads(NAME).begin(NAME)
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    data = store.root / "uploads" / session / "data"
    data.unlink()
    data.symlink_to(victim)
    with pytest.raises(UploadUnknown):
        store.uploads(NAME).open(NAME, session)
    assert victim.read_bytes() == b"untouched"


def test_sessions_expire_by_their_last_write(store: Store) -> None:
    uploads = store.uploads(NAME)
    empty, begun, busy, fresh = (uploads.begin(NAME, owner="user:anna") for _ in range(4))
    for session in (begun, busy):
        upload = _opened(store, session)
        upload.write(b"content")
        upload.publish()
        upload.close()
    held = _opened(store, busy)
    for session in (empty, begun, busy):
        for path in (*(store.root / "uploads" / session).iterdir(), store.root / "uploads" / session):
            os.utime(path, (0, 0))
    assert uploads.count() == uploads.count("user:anna") == 4
    assert uploads.count("user:berta") == 0
    assert uploads.expire(idle=2**40, empty=3600) == [empty]
    assert uploads.expire(idle=3600, empty=3600, dry_run=True) == [begun]
    assert uploads.expire(idle=3600, empty=3600) == [begun]
    held.close()
    assert {each.name for each in (store.root / "uploads").iterdir()} == {busy, fresh}


def test_half_a_session_expires_too(store: Store) -> None:
    session = store.uploads(NAME).begin(NAME)
    folder = store.root / "uploads" / session
    (folder / "meta").unlink()
    for path in (folder / "data", folder):
        os.utime(path, (0, 0))
    assert store.uploads(NAME).expire(idle=3600, empty=3600) == [session]
    assert not folder.exists()


def test_the_memory_of_the_server_does_not_grow_with_a_blob(tmp_path: Path) -> None:
    """256 MiB in one request, and the worker's resident memory stays below that."""
    piece = bytes(1024 * 1024)
    with running_registry(tmp_path, writable=True) as registry:
        push_image(registry.client, "warm")
        (worker,) = _server_workers(registry.url)
        before = _peak_kib(worker)
        location = begin(registry.client)
        answer = registry.client.patch(location, content=(piece for _ in range(256)), timeout=120)
        assert answer.headers["Range"] == f"0-{256 * 1024 * 1024 - 1}"
        assert _peak_kib(worker) - before < 64 * 1024


def _peak_kib(pid: int) -> int:
    (line,) = (
        each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM")
    )
    return int(line.split()[1])
