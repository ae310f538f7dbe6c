"""Mistakes about a Prefect server of the user's own: one sentence, exit code 1, and never "a bug"."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from flows.orchestration.user_server import require_server
from tests.support.command_line import mirrorflow, write_profile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = write_profile(tmp_path, "http://127.0.0.1:1", "{prefix: '**'}", "pollInterval: 1h,")
    path.write_text(f"http: {{port: 0}}\n{path.read_text()}")
    return path


@contextmanager
def _refusing(status: int) -> Iterator[str]:
    """A Prefect API that is healthy, and answers everything else with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            healthy = self.path.endswith("/health")
            body = b"true" if healthy else b"secret"
            self.send_response(200 if healthy else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
    finally:
        server.shutdown()
        server.server_close()


def _nothing_there() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}/api"


@pytest.mark.parametrize("command", ["deploy", "sync", "up"])
@pytest.mark.parametrize(
    ("address", "said"),
    [
        pytest.param("", "cannot be reached: [Errno 111] Connection refused", id="the server does not run"),
        pytest.param("UI", "/api, its API", id="without /api"),
        pytest.param("prefect.example:4200", "write http:// or https://", id="without http"),
    ],
)
def test_a_wrong_address_is_one_sentence(
    profile: Path, prefect_url: str, command: str, address: str, said: str
) -> None:
    if address == "UI":
        address = prefect_url.removesuffix("/api")
    done = mirrorflow(command, profile, PREFECT_API_URL=address or _nothing_there())
    assert done.returncode == 1
    _is_one_sentence(done.stderr, said)
    assert "PREFECT_API_URL" in done.stderr


def test_an_unknown_work_pool_is_named_with_those_there_are(profile: Path, prefect_url: str) -> None:
    done = mirrorflow("deploy", profile, "--work-pool", "nowhere", PREFECT_API_URL=prefect_url)
    assert done.returncode == 1
    _is_one_sentence(done.stderr, "has no work pool 'nowhere'; it has ")


def test_deploy_says_what_it_did(profile: Path, prefect_url: str) -> None:
    text = profile.read_text().replace("pollInterval: 1h,", "pollInterval: 1h, deployment: {workQueue: q},")
    profile.write_text(text.replace("name: up", f"name: up-{profile.parent.name}"))
    done = mirrorflow("deploy", profile, PREFECT_API_URL=prefect_url)
    assert done.returncode == 0, done.stderr
    first, note = done.stdout.splitlines()
    assert first.startswith("deployed  mirror_registry/up-")
    assert "workQueue 'q' has no effect without a work pool" in note


@pytest.mark.parametrize("command", ["deploy", "sync", "up"])
@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(401, "refuses the login (401): set PREFECT_API_AUTH_STRING", id="a login is needed"),
        pytest.param(500, "answered 500 to ", id="the server is broken"),
    ],
)
def test_a_server_that_refuses_is_one_sentence(profile: Path, command: str, status: int, said: str) -> None:
    with _refusing(status) as url:
        done = mirrorflow(command, profile, PREFECT_API_URL=url, PREFECT_CLIENT_MAX_RETRIES="0")
    assert done.returncode == 1
    _is_one_sentence(done.stderr, said)
    assert "secret" not in done.stderr


def test_a_password_in_the_address_is_not_shown(prefect_url: str) -> None:
    address = _nothing_there().replace("//", "//me:hidden@")
    with pytest.raises(Exception, match="cannot be reached") as refused:
        require_server(address)
    assert "hidden" not in str(refused.value)
    require_server(prefect_url)


def _is_one_sentence(stderr: str, said: str) -> None:
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, stderr
    assert said in errors[0], stderr
    assert "Traceback" not in stderr
    assert "a bug" not in stderr
