"""The server as a process: how it starts, refuses to start, and ends."""

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

from registry_server.http.listener import CannotListen, listen, url_of
from registry_server.http.server_options import ServerOptions
from registry_server.http.server_process import ServerFailed, ServerProcess, running_server
from registry_server.oci.reference import RepositoryName
from tests.support.registries import put_blob, running_registry
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = [sys.executable, "-m", "registry_server"]


def _run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_the_help_teaches() -> None:
    done = _run(["--help"])
    assert done.returncode == 0
    for word in ("--root", "--subpath", "--tls-client-ca", "--access-log", "skopeo copy", "examples:"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--root"),
        (["--root", "r", "--tls-cert", "c"], "--tls-cert and --tls-key belong together"),
        (["--root", "r", "--tls-client-ca", "c"], "--tls-client-ca needs"),
        (["--root", "r", "--subpath", "tools=/srv"], "is not of the form /NAME=DIR"),
        (["--root", "r", "--workers", "0"], "is not a number from 1 on"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], complaint: str) -> None:
    done = _run(arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_it_starts_quietly_and_ends_cleanly(tmp_path: Path, number: signal.Signals, workers: int) -> None:
    child = subprocess.Popen(
        [*PROGRAM, "--root", str(tmp_path), "--port", "0", "--workers", str(workers), "--print-url"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert child.stdout is not None
    url = child.stdout.readline().strip()
    with httpx.Client() as client:  # a connection that is kept alive does not hold it up
        assert client.get(f"{url}/v2/").status_code == 200
        os.killpg(child.pid, number)  # what Ctrl-C does: everybody in the group is told
        assert child.communicate(timeout=30) == ("", "")
    assert child.returncode == 0


def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run(["--root", str(tmp_path), "--port", str(port)])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: cannot listen on 127.0.0.1 port {port}: "
        "another program listens there; stop it or choose another port\n"
    )


def test_two_servers_never_share_a_port(tmp_path: Path) -> None:
    with running_server(tmp_path / "one") as url:
        port = int(url.rpartition(":")[2])
        with (
            pytest.raises(ServerFailed, match="another program listens there"),
            running_server(tmp_path / "two", port=port),
        ):
            pass


@pytest.mark.parametrize(
    ("address", "port", "complaint"),
    [
        ("192.0.2.1", 0, "this machine has no such address"),  # TEST-NET-1
        ("no host", 0, "is not an address of a host"),
        ("127.0.0.1", 70_000, "ports are numbers from 0 to 65535"),
    ],
)
def test_an_address_that_cannot_be_bound_is_named(address: str, port: int, complaint: str) -> None:
    with pytest.raises(CannotListen, match=complaint) as refused:
        listen(address, port)
    assert f"{address} port {port}" in str(refused.value)


def test_urls_of_ipv6_have_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with listen("::1", 0) as listener:
        assert url_of(listener, tls=True) == f"https://[::1]:{listener.getsockname()[1]}"


def test_a_store_of_a_later_version_is_an_error_before_it_listens(tmp_path: Path) -> None:
    with running_server(tmp_path):
        pass
    (tmp_path / "format.json").write_text('{"version": 999, "uuid": "x"}')
    with pytest.raises(ServerFailed, match="999"), running_server(tmp_path):
        pass


def test_an_access_log_that_cannot_be_written_is_an_error_before_it_listens(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailed, match=r"none/access\.log"),
        running_server(tmp_path, access_log=tmp_path / "none/access.log"),
    ):
        pass


def test_a_server_that_was_killed_can_be_stopped(tmp_path: Path) -> None:
    server = ServerProcess(ServerOptions(tmp_path, port=0))
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    assert server.exit_code == -signal.SIGKILL


def _gone(url: str) -> None:
    """Returns when nobody accepts connections any more; the test's time limit is the bound."""
    host, _, port = url.removeprefix("http://").partition(":")
    for _ in range(1_000_000):
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except ConnectionRefusedError:
            return
        except OSError:
            continue
    pytest.fail(f"{url} still listens")


def test_workers_do_not_outlive_a_killed_main_process(tmp_path: Path) -> None:
    server = ServerProcess(ServerOptions(tmp_path, port=0, workers=2))
    httpx.get(f"{server.url}/v2/")
    os.kill(server.pid, signal.SIGKILL)
    _gone(server.url)
    server.stop()


def test_a_server_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """Not even one that is killed, and that started the server from a thread that ended long ago."""
    program = (
        "import os, threading, signal, sys\n"
        "from pathlib import Path\n"
        "from registry_server.http.server_options import ServerOptions\n"
        "from registry_server.http.server_process import ServerProcess\n"
        "found = []\n"
        "start = lambda: found.append(ServerProcess(ServerOptions(Path(sys.argv[1]), port=0)))\n"
        "thread = threading.Thread(target=start); thread.start(); thread.join()\n"
        "print(found[0].url, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    url = parent.stdout.readline().strip()
    assert httpx.get(f"{url}/v2/").status_code == 200
    parent.kill()
    parent.wait()
    _gone(url)
    parent.stdout.close()
    parent.stdin.close()


def test_a_client_that_stopped_reading_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    with running_registry(tmp_path) as registry:
        blob = put_blob(registry.store, "library/big", bytes(64 * 1024 * 1024))
        host, _, port = registry.host.partition(":")
        stalled = socket.create_connection((host, int(port)))
        stalled.sendall(f"GET /v2/library/big/blobs/{blob.digest} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert stalled.recv(1000)
    with stalled:  # the block above has ended the server
        _gone(registry.url)


def _kill_worker(server: ServerProcess) -> None:
    httpx.get(f"{server.url}/v2/")
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not list the children of a process")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)


def test_a_worker_that_was_killed_is_replaced(tmp_path: Path) -> None:
    server = ServerProcess(ServerOptions(tmp_path, port=0))
    _kill_worker(server)
    # Connections wait in the queue of the socket, which the main process holds, for the next worker.
    assert httpx.get(f"{server.url}/v2/", timeout=60).status_code == 200
    server.stop()
    assert server.exit_code == 0


def test_a_worker_that_cannot_start_again_says_why_and_the_server_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ServerProcess(ServerOptions(tmp_path, port=0))
    assert httpx.get(f"{server.url}/v2/").status_code == 200  # the first worker has opened the store
    (tmp_path / "format.json").write_text('{"version": 999, "uuid": "x"}')
    _kill_worker(server)
    assert server.wait(60) == 1
    server.stop()
    complaints = capsys.readouterr().err.splitlines()
    assert complaints
    assert all(line.startswith("error: ") and "999" in line for line in complaints)


def test_a_worker_that_is_replaced_begins_no_store_where_a_volume_is_unmounted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ServerProcess(ServerOptions(tmp_path / "store", port=0))
    assert httpx.get(f"{server.url}/v2/").status_code == 200  # the first worker has opened the store
    (tmp_path / "store").rename(tmp_path / "volume")
    (tmp_path / "store").mkdir()
    _kill_worker(server)
    assert server.wait(60) == 1
    server.stop()
    assert "there is no store" in capsys.readouterr().err
    assert list((tmp_path / "store").iterdir()) == []


def test_what_the_server_complains_about_appears_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_registry(tmp_path) as registry:
        made = registry.maker("library/damaged").image([])
        path = file_of(registry.store.repository(RepositoryName("library/damaged")), made.digest)
        path.chmod(0o600)
        path.write_text("{}")
        url = f"/v2/library/damaged/manifests/{made.digest}"
        assert registry.client.get(url).status_code == 500
    complaint = capsys.readouterr().err
    assert f"registry_server ERROR GET {url}: library/damaged@{made.digest}" in complaint
    assert complaint.count("\n") == 1


def test_several_workers_share_a_port_and_a_log(tmp_path: Path) -> None:
    with running_registry(tmp_path, workers=2) as registry:
        answers = [httpx.get(f"{registry.url}/v2/").status_code for _ in range(20)]
        assert answers == [200] * 20
    assert registry.requests.counts() == {"GET base": 20}


def test_subpaths_are_served_from_their_own_roots(tmp_path: Path) -> None:
    with running_registry(tmp_path, subpaths={"/tools": tmp_path / "tools-root"}) as registry:
        blob = put_blob(registry.store, "tools/jq", b"in the other root")
        assert (tmp_path / "tools-root/repos/tools/jq").is_dir()
        assert registry.client.get(f"/v2/tools/jq/blobs/{blob.digest}").content == b"in the other root"


def test_it_imports_neither_a_client_nor_the_flows() -> None:
    """The server runs where only a store is needed: its start must stay cheap."""
    program = (
        "import sys, registry_server.http.serve, registry_server.__main__\n"
        "heavy = set('httpx prefect pydantic profiles tasks flows sigstore typer rich'.split())\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
