"""Programs of others that are measured beside ours, or that serve what is mirrored."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_WAIT = 20.0  # seconds for a server to listen


class MissingPeer(Exception):
    """A program that the benchmark needs is not on PATH."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not on PATH; docs/benchmarks.md says where peers come from")
        self.name = name


@dataclass(frozen=True, slots=True)
class Server:
    """A running one: `host` is `127.0.0.1:port`."""

    host: str
    pid: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    scheme: str = "http",
    output: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server, until the block ends. `output`: where what it prints goes, appended; None: nowhere. `more`:
    variables of its environment."""
    with output.open("ab") if output else nullcontext(subprocess.DEVNULL) as stdout:
        variables = {**os.environ, **(more or {})}
        child = subprocess.Popen(command, env=variables, stdout=stdout, stderr=subprocess.DEVNULL)
    try:
        _await_port(port, child)
        yield Server(f"127.0.0.1:{port}", child.pid, scheme)
    finally:
        child.terminate()
        child.wait()


def _await_port(port: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline and child.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{child.args!r} does not listen on port {port}")


@contextmanager
def docker_registry(
    program: str, folder: Path, root: Path, access_log: Path | None = None, **more: Any
) -> Iterator[Server]:
    """docker-registry, or its successor distribution, over `root` (see layouts.py for how it is filled).

    `more`: further sections, e.g. `proxy={"remoteurl": ...}` for a pull-through cache.
    """
    port = free_port()
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": access_log is None}},
        "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
        **more,
    }
    config = folder / f"registry-{port}.yml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    with running([program, "serve", str(config)], port, output=access_log) as server:
        yield server


@contextmanager
def zot(
    program: str,
    folder: Path,
    root: Path,
    sync: Mapping[str, Any] | None = None,
    log: Path | None = None,
    **storage: Any,
) -> Iterator[Server]:
    """zot over `root`, to which anybody may push. `sync`: what it mirrors, as an element of `registries`;
    `storage`: more of that section."""
    port = free_port()
    settings: dict[str, Any] = {
        "distSpecVersion": "1.1.1",
        "storage": {"rootDirectory": str(root), "gc": False, **storage},
        "http": {"address": "127.0.0.1", "port": str(port)},
        "log": {"level": "info" if log else "error"},
    }
    if sync:
        more = {"downloadDir": str(folder / "zot-download")} if storage else {}
        settings["extensions"] = {"sync": {"enable": True, **more, "registries": [dict(sync)]}}
    config = folder / f"zot-{port}.json"
    config.write_text(json.dumps(settings))
    with running([program, "serve", str(config)], port, output=log) as server:
        yield server
