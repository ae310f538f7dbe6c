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
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_WAIT = 20.0  # seconds for a server to listen


class MissingPeer(Exception):
    """A program that the benchmark needs is not on PATH."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed; Debian has it as a package")
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
def _running(
    command: Sequence[str], port: int, scheme: str = "http", output: Path | None = None
) -> Iterator[Server]:
    """`output`: where what it prints goes, appended; None: nowhere."""
    with output.open("ab") if output else nullcontext(subprocess.DEVNULL) as stdout:
        child = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL)
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
    program: str, folder: Path, root: Path, access_log: Path | None = None
) -> Iterator[Server]:
    """Debian's docker-registry over `root` (see layouts.py for how it is filled)."""
    port = free_port()
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": access_log is None}},
        "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    config = folder / f"registry-{port}.yml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    with _running([program, "serve", str(config)], port, output=access_log) as server:
        yield server


@contextmanager
def zot(program: str, folder: Path) -> Iterator[Server]:
    """zot over an empty store, to which anybody may push."""
    port = free_port()
    settings: dict[str, Any] = {
        "distSpecVersion": "1.1.0",
        "storage": {"rootDirectory": str(folder / "zot")},
        "http": {"address": "127.0.0.1", "port": str(port)},
        "log": {"level": "error"},
    }
    config = folder / f"zot-{port}.json"
    config.write_text(json.dumps(settings))
    with _running([program, "serve", str(config)], port) as server:
        yield server


_NGINX = """
daemon off; worker_processes {workers}; pid {folder}/nginx-{port}.pid; {user}
error_log {folder}/nginx-{port}.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;
  client_body_temp_path {folder}/b{port}; proxy_temp_path {folder}/p{port};
  fastcgi_temp_path {folder}/f{port}; uwsgi_temp_path {folder}/u{port}; scgi_temp_path {folder}/s{port};
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port} {tls};
    root {root};
    location = /v2/ {{ return 200 "{{}}"; }}
    location ~ "^/v2/.+/blobs/sha256:(..)(.+)$" {{ alias {root}/blobs/sha256/$1/$1$2; }}
    location ~ "^/v2/.+/manifests/sha256:(..)(.+)$" {{
      default_type application/vnd.oci.image.manifest.v1+json; alias {root}/blobs/sha256/$1/$1$2;
    }}
    {tags}
  }}
}}
"""
_TAG = """location = /v2/{name}/manifests/{tag} {{
  default_type application/vnd.oci.image.manifest.v1+json;
  add_header Docker-Content-Digest {digest}; alias {root}/blobs/sha256/{folder}/{hex};
}}"""


@contextmanager
def nginx(
    program: str,
    folder: Path,
    root: Path,
    *,
    workers: int = 1,
    tags: Sequence[tuple[str, str, str]] = (),
    tls: tuple[Path, Path] | None = None,
) -> Iterator[Server]:
    """nginx over the pool of a store, by the paths of a registry and by those of the files.

    `tags`: repository, tag and digest of manifests that are to be had by tag. `tls`: certificate and key.
    """
    port = free_port()
    values = {
        "folder": folder, "port": port, "workers": workers, "root": root,
        "user": "user root;" if os.geteuid() == 0 else "",
        "tls": f"ssl; ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]}" if tls else "",
        "tags": "\n".join(_tag(root, *each) for each in tags),
    }  # fmt: skip
    config = folder / f"nginx-{port}.conf"
    config.write_text(_NGINX.format(**values))
    command = [program, "-c", str(config), "-p", str(folder), "-e", f"{folder}/nginx-{port}.log"]
    with _running(command, port, "https" if tls else "http") as server:
        yield server


def _tag(root: Path, name: str, tag: str, digest: str) -> str:
    encoded = digest.partition(":")[2]
    return _TAG.format(root=root, name=name, tag=tag, digest=digest, folder=encoded[:2], hex=encoded)
