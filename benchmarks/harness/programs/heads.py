"""HEAD requests from one thread over many connections: wrk waits for the body that a HEAD does not have.

`python -m benchmarks.harness.programs.heads HOST PATH CLIENTS SECONDS`; prints the requests a second.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

from registry_server.oci.media_types import ACCEPT


def main() -> None:
    host, path, clients, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    request = f"HEAD {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {ACCEPT}\r\n\r\n".encode()
    ready = selectors.EpollSelector()
    for _ in range(clients):
        sock = _connected(host)
        ready.register(sock, selectors.EVENT_READ)
        sock.sendall(request)
    began, answers = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for key, _ in ready.select(1):
            sock = key.fileobj  # type: ignore[assignment] # what was registered
            answers += _answered(sock)
            sock.sendall(request)
    print(json.dumps({"requests": answers / (time.perf_counter() - began)}))


def _connected(host: str) -> socket.socket:
    address, _, port = host.partition(":")
    sock = socket.create_connection((address, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _answered(sock: socket.socket) -> int:
    data = sock.recv(65536)
    while not data.endswith(b"\r\n\r\n"):
        data += sock.recv(65536)
    assert data.startswith(b"HTTP/1.1 200"), data[:200]
    return 1


if __name__ == "__main__":
    main()
