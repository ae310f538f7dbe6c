"""`up` as containers run it: configured by the environment, a root file system that is read-only, SIGTERM."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRACE = 30  # seconds; the chart's terminationGracePeriodSeconds is longer
STARTED = 180  # seconds; an empty database is migrated first
PROFILE = """\
storage: {rootDirectory: /nonexistent}
sync:
  registries:
    - name: up
      urls: ["http://127.0.0.1:1"]
      content: [{prefix: app}]
"""
# What a container's `readOnlyRootFilesystem: true` does: nothing but the volume can be written to.
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro / && shift && exec "$@"'


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Container:
    """The process, and where it listens."""

    def __init__(self, folder: Path, prefix: list[str]) -> None:
        self.port, self.prefect_port = free_port(), free_port()
        (folder / "profile.yaml").write_text(PROFILE)
        (folder / "data").mkdir()
        (folder / "tmp").mkdir()
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "LANG"}}
        environment = {
            **kept,
            "HOME": "/nonexistent",
            "TMPDIR": str(folder / "tmp"),
            "MIRRORFLOW_PROFILE": str(folder / "profile.yaml"),
            "MIRRORFLOW_ROOT_DIRECTORY": str(folder / "data"),
            "MIRRORFLOW_HTTP_ADDRESS": "0.0.0.0",  # noqa: S104 - as in a container
            "MIRRORFLOW_HTTP_PORT": str(self.port),
            "MIRRORFLOW_PREFECT_HOST": "0.0.0.0",  # noqa: S104
            "MIRRORFLOW_PREFECT_PORT": str(self.prefect_port),
        }
        self.log = (folder / "log").open("wb")
        command = [sys.executable, "-c", "from flows.cli import main; main()", "up"]
        self.process = subprocess.Popen(
            [*prefix, *command], env=environment, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL
        )

    def answer(self, path: str, port: int = 0) -> httpx.Response:
        """By another address of this machine than the one that only a loopback server has."""
        url = f"http://127.0.0.2:{port or self.port}{path}"
        deadline = time.monotonic() + STARTED
        while True:
            assert self.process.poll() is None, "it ended"
            try:
                return httpx.get(url, timeout=5)
            except httpx.HTTPError:
                assert time.monotonic() < deadline, f"{url} does not answer"
                time.sleep(0.2)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(GRACE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("a read-only root needs root and unshare")
    prefix = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(tmp_path)]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    found = Container(tmp_path, prefix)
    try:
        yield found
    finally:
        found.close()


def test_up_runs_in_a_container_and_ends_within_the_grace_period(container: Container) -> None:
    assert container.answer("/livez").status_code == 200
    assert container.answer("/v2/").status_code == 200
    settings = container.answer("/ui-settings", container.prefect_port).json()
    assert settings["api_url"] == "/api", "a browser elsewhere asks the address that it has"
    assert container.answer("/api/health", container.prefect_port).json() is True
    assert container.stop() == 0
