"""An S3 server of our own: versitygw over a folder. Its access log is the witness of what was asked."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCESS_KEY: Final = "mirror"
SECRET_KEY: Final = "not-for-messages"
ENVIRONMENT: Final = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
"""What a process needs to reach the server: set it with `monkeypatch.setenv`, or give it to a child."""
BUCKETS: Final[dict[str, Path]] = {}
"""Where the server of each URL that runs now keeps its buckets."""
_REQUEST: Final = re.compile(r" s3_(\w+) (\S+) /")
_GO_FOLDERS: Final = (os.environ.get("GOBIN", ""), "~/go/bin")  # of `go install`


@dataclass
class S3Server:
    """A running one. `new_requests` reads on in the log from where it stopped the last time."""

    url: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]
    _read: int = 0

    def make_bucket(self, name: str) -> str:
        (self.folder / name).mkdir()
        return name

    def uploads(self, bucket: str) -> int:
        """How many multipart uploads are open."""
        return len(list((self.folder / bucket / ".sgwtmp" / "multipart").glob("*/*")))

    def new_requests(self) -> list[str]:
        """E.g. `PutObject root/key` or `ListObjectsV2 -`, in the order in which they were answered."""
        text = self.log.read_text()
        found = [f"{match[1]} {match[2]}" for match in _REQUEST.finditer(text, self._read)]
        self._read = text.rfind("\n") + 1
        return found


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """A server on a free port of 127.0.0.1 that keeps its buckets below `folder`; skipped where missing."""
    program = _versitygw()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    data, log = folder / "buckets", folder / "s3.log"
    data.mkdir(parents=True)
    log.touch()
    secrets = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    process = subprocess.Popen(
        [program, "--port", address, "--quiet", "--keep-alive", "--access-log", str(log), "posix", str(data)],
        env={**os.environ, **secrets}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_until_it_answers(address, process)
        server = S3Server(f"http://{address}", data, log, process)
        BUCKETS[server.url] = data
        yield server
    finally:
        BUCKETS.pop(f"http://{address}", None)
        process.kill()
        process.wait()


def _versitygw() -> str:
    path = shutil.which("versitygw")
    for folder in _GO_FOLDERS:
        path = path or shutil.which("versitygw", path=os.path.expanduser(folder))  # noqa: PTH111 - a PATH
    if path is not None:
        return path
    reason = "versitygw is not installed; `go install github.com/versity/versitygw/cmd/versitygw@latest`"
    pytest.skip(reason)


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"versitygw does not answer at {address}")
