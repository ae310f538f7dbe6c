"""A TCP proxy before an upstream, which can be told to hang, or to be gone."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 64 * 1024


class Gate:
    """`host` stays the same whatever it does; connections that are open when that changes are cut."""

    def __init__(self, target: str) -> None:
        name, _, port = target.partition(":")
        self._target = (name, int(port))
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self._port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._hanging = False
        self._lock = threading.Lock()
        self._serve(self._listener)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def hang(self) -> None:
        """From now on connections are taken, and nothing is ever said."""
        self._hanging = True
        self._cut()

    def close(self) -> None:
        """From now on connections are refused."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
            self._listener = None
        self._cut()

    def open(self) -> None:
        self._hanging = False
        self._cut()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self._port))
            self._serve(self._listener)

    def _serve(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with self._lock:
                    self._open.append(client)
                if not self._hanging:
                    self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            upstream = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        with self._lock:
            self._open.append(upstream)
        for one, other in ((client, upstream), (upstream, client)):
            threading.Thread(target=_pump, args=[one, other], daemon=True).start()

    def _cut(self) -> None:
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
            self._open.clear()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def gate_before(target: str) -> Iterator[Gate]:
    gate = Gate(target)
    try:
        yield gate
    finally:
        gate.close()
