"""Debian's docker-registry (CNCF distribution) as a real upstream, with its own access log as witness."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certificates import Authority

_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/[\d.]+" (?P<status>\d{3}) (?P<size>\d+)')
_KINDS = ("manifests", "blobs", "tags", "_catalog")


@dataclass(frozen=True)
class Request:
    """One line of the access log; `size` is the body's, as it was sent."""

    method: str
    target: str
    status: int
    size: int

    @property
    def kind(self) -> str:
        """E.g. `HEAD manifests`."""
        return f"{self.method} {next((kind for kind in _KINDS if kind in self.target), 'other')}"


@dataclass
class DockerRegistry:
    """A running one. `new_requests` reads on in the log from where it stopped the last time."""

    host: str
    url: str
    log: Path
    _read: int = 0

    def new_requests(self) -> list[Request]:
        text = self.log.read_text()
        found = [_request(match) for match in _LINE.finditer(text, self._read)]
        self._read = text.rfind("\n") + 1
        return found

    def new_counts(self) -> Counter[str]:
        return Counter(request.kind for request in self.new_requests())


def _request(match: re.Match[str]) -> Request:
    return Request(match["method"], match["target"], int(match["status"]), int(match["size"]))


@contextmanager
def running_docker_registry(
    program: str,
    folder: Path,
    *,
    root: Path,
    authority: Authority | None = None,
    notify: dict[str, Any] | None = None,
    deletes: bool = False,
) -> Iterator[DockerRegistry]:
    """Serve `root` on a free port; with an `authority` over TLS, and only to clients that it has signed.

    `notify` is an endpoint for its notifications. `deletes`: whether manifests can be deleted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    http: dict[str, Any] = {"addr": f"127.0.0.1:{port}"}
    if authority is not None:
        pair = authority.server()
        http["tls"] = {
            "certificate": str(pair.cert),
            "key": str(pair.key),
            "clientcas": [str(authority.cert)],
        }
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": deletes}},
        "http": http,
        "notifications": {"endpoints": [notify] if notify else []},
    }
    config, log = folder / "config.yml", folder / "access.log"
    config.write_text(json.dumps(settings))  # JSON is YAML
    with log.open("wb") as output:
        child = subprocess.Popen([program, "serve", str(config)], stdout=output, stderr=subprocess.DEVNULL)
    try:
        scheme = "https" if authority else "http"
        _await(f"{scheme}://127.0.0.1:{port}", authority)
        yield DockerRegistry(f"127.0.0.1:{port}", f"{scheme}://127.0.0.1:{port}", log)
    finally:
        child.terminate()
        child.wait()


def _await(url: str, authority: Authority | None) -> None:
    """Connects again, with growing pauses, until it listens."""
    verify: Any = True
    if authority is not None:
        verify = ssl.create_default_context(cafile=str(authority.cert))
        pair = authority.client("probe")
        verify.load_cert_chain(pair.cert, pair.key)
    transport = httpx.HTTPTransport(retries=10, verify=verify)
    with httpx.Client(transport=transport, timeout=30) as client:
        client.get(f"{url}/v2/").raise_for_status()
