"""nginx over the pool of a store: what a web server of C makes of the same files."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.harness.peers.servers import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.harness.peers.servers import Server

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
    with running(command, port, "https" if tls else "http") as server:
        yield server


def _tag(root: Path, name: str, tag: str, digest: str) -> str:
    encoded = digest.partition(":")[2]
    return _TAG.format(root=root, name=name, tag=tag, digest=digest, folder=encoded[:2], hex=encoded)
