"""A TCP proxy that breaks connections in the middle of what a client sends."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE: Final = 64 * 1024
_ABORT: Final = struct.pack("ii", 1, 0)


@dataclass
class CuttingProxy:
    """`cuts`: after how many bytes from a client its connection is reset; each cut hits one connection.

    Connections that send less are left alone.
    """

    target: tuple[str, int]
    cuts: list[int]
    sent: int = 0  # bytes from clients that were passed on
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._pipe, args=(client,), daemon=True).start()

    def _pipe(self, client: socket.socket) -> None:
        server = socket.create_connection(self.target)
        threading.Thread(target=_copy, args=(server, client), daemon=True).start()
        passed = 0
        with suppress(OSError), client, server:
            while piece := client.recv(_PIECE):
                server.sendall(piece)
                passed += len(piece)
                with self.lock:
                    self.sent += len(piece)
                    cut = bool(self.cuts) and passed >= self.cuts[0]
                    if cut:
                        del self.cuts[0]
                if cut:
                    for each in (
                        client,
                        server,
                    ):  # what another thread receives from is not closed by closing
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                        each.shutdown(socket.SHUT_RDWR)
                    return


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            sink.sendall(piece)


@contextmanager
def cutting_proxy(url: str, *cuts: int) -> Iterator[CuttingProxy]:
    """Before the server at `url`."""
    host, _, port = url.partition("//")[2].partition(":")
    proxy = CuttingProxy((host, int(port)), [*cuts])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=proxy.serve, args=(listener,), daemon=True)
        thread.start()
        yield proxy
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
