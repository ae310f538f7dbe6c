"""One blob into a file: by a bare socket, which is the limit, or by ours, each in a process of its own.

`python -m benchmarks.harness.programs.copies raw HOST PATH FILE [CA]`
`python -m benchmarks.harness.programs.copies ours PROFILE REPOSITORY DIGEST SIZE`

It prints seconds of wall and CPU, without the start of Python.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import socket
import ssl
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from registry_server.store.store import Store

if TYPE_CHECKING:
    from profiles.model.profile import Profile

_PIECE = 1 << 18


def raw(host: str, path: str, file: str, authority: str = "") -> None:
    """A GET, then receive into one buffer, fill it, hash it, write it."""
    address, _, port = host.partition(":")
    with socket.create_connection((address, int(port))) as plain, Path(file).open("wb", buffering=0) as out:
        sock = _tls(plain, authority) if authority else plain
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        hasher, buffer = hashlib.sha256(), memoryview(bytearray(_PIECE))
        held = sock.recv_into(buffer)
        body = bytes(buffer[:held]).partition(b"\r\n\r\n")[2]
        buffer[: len(body)] = body
        used = len(body)
        while got := sock.recv_into(buffer[used:]):
            used += got
            if used == _PIECE:
                hasher.update(buffer)
                out.write(buffer)
                used = 0
        hasher.update(buffer[:used])
        out.write(buffer[:used])
        assert path.endswith(hasher.hexdigest()), "the limit has other bytes"


def _tls(plain: socket.socket, authority: str) -> ssl.SSLSocket:
    return ssl.create_default_context(cafile=authority).wrap_socket(plain, server_hostname="127.0.0.1")


def ours(profile: str, repository: str, digest: str, size: str) -> None:
    """What copy_blob does with one blob: from upstream through the incoming file into the pool."""
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName
    from tasks.upstream.login.credential_sources import StandardCredentials
    from tasks.upstream.registry import UpstreamRegistry

    loaded = _loaded(profile)
    store = Store.open(loaded.storage.root_directory)
    blob = Descriptor("application/octet-stream", Digest(digest), int(size))
    with (
        UpstreamRegistry(loaded.sync.registries[0], StandardCredentials(None)) as upstream,
        store.repository(RepositoryName(repository)).receive_blob(blob) as incoming,
    ):
        upstream.blob(repository, blob, incoming)
        incoming.commit()


@cache
def _loaded(profile: str) -> Profile:
    from profiles.loader import load_profile

    return load_profile(Path(profile)).profile


def main() -> None:
    kind, *arguments = sys.argv[1:]
    if kind == "ours":  # what a run does once is no part of the copy
        importlib.import_module("tasks.upstream.registry")
        importlib.import_module("httpcore")  # httpx does that with its first connection
        _loaded(arguments[0])
    began, used = time.perf_counter(), time.process_time()
    (ours if kind == "ours" else raw)(*arguments)
    print(json.dumps({"wall": time.perf_counter() - began, "cpu": time.process_time() - used}))


if __name__ == "__main__":
    main()
