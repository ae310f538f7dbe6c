"""A registry server in a child process: for the demo, for tests, and beside the flows."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TextIO

from registry_server.http.server_options import ServerOptions
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_GRACE = 15  # seconds; the server gives its transfers fewer


class ServerFailed(MirrorflowError):
    """The server did not start; the message is its own."""


@contextmanager
def running_server(root: Path, *, port: int = 0, **options: Any) -> Iterator[str]:
    """The URL of a server that runs as long as the block; `options` are those of `ServerOptions`.

    Raises `ServerFailed`.
    """
    server = ServerProcess(ServerOptions(root, port=port, **options))
    try:
        yield server.url
    finally:
        server.stop()


class ServerProcess:
    """A running server: connections are accepted once this is constructed. Raises `ServerFailed`.

    It does not outlive this process, whatever ends that; and it is in a process group of its own, so
    that Ctrl-C reaches this process only, which ends it in its own time. What it writes to its standard
    output (logs, if they go there) and error once it runs appears on ours.
    """

    url: str

    def __init__(self, options: ServerOptions) -> None:
        with _access_file(options) as (access, descriptors):
            self._child = _start(options.arguments(access=access), descriptors)
        assert self._child.stdout is not None
        self.url = self._child.stdout.readline().decode().strip()
        if not self.url:
            raise ServerFailed(self._startup_error())
        self._forwarders = [
            threading.Thread(target=_forward, args=each, name="registry-server-output", daemon=True)
            for each in ((self._child.stdout, sys.stdout), (self._child.stderr, sys.stderr))
        ]
        for each in self._forwarders:
            each.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None as long as it runs."""
        return self._child.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code once it has ended by itself; None if it still runs after `seconds`."""
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """End it: transfers that run get a few seconds. Does nothing if it has ended already."""
        assert self._child.stdin is not None
        self._child.stdin.close()  # it ends by itself then: one signal, sent by itself, not a second one
        try:
            self._child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for each in self._forwarders:
            each.join()

    def _startup_error(self) -> str:
        _, said = self._child.communicate()
        text = said.decode(errors="replace").strip().removeprefix("error: ")
        return text or f"the registry server ended at once with exit code {self._child.returncode}"


def _forward(lines: IO[bytes], to: TextIO) -> None:
    """A pipe that nobody empties would stop the server once it is full."""
    with lines:
        for line in lines:
            to.write(line.decode(errors="replace"))
            to.flush()


def _start(arguments: list[str], descriptors: Collection[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "registry_server", *arguments, "--print-url", "--end-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        pass_fds=descriptors,
    )


@contextmanager
def _access_file(options: ServerOptions) -> Iterator[tuple[str, Collection[int]]]:
    """The access options as a file without a name: the list of processes shows no users, no repositories."""
    if options.access is None:
        yield "", ()
        return
    with tempfile.TemporaryFile() as file:
        file.write(options.access.to_json().encode())
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}", (file.fileno(),)
