"""A proxy before an upstream that counts, and makes the upstream as far away and as ill as is wanted.

It runs in a process of its own (`Proxy`), a thread a connection, and hands bodies on inside the kernel
(splice), so that it costs the machine little. It is told what to do in lines of JSON on its standard input.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE: Final = 1 << 18
_TLS: Final = b"\x16"
_KIND = re.compile(rb"/(manifests|blobs|tags|referrers|_catalog)(?:/|$)")
_NAMES = {"manifests": "manifest", "blobs": "blob", "_catalog": "catalog"}


class Proxy:
    """A running one. `asked()` is what came since the last call, as `Bundled.asked` says it."""

    def __init__(self, upstream: str) -> None:
        command = [sys.executable, "-m", "benchmarks.harness.upstreams.proxy", upstream]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.host = f"127.0.0.1:{self._answer()['port']}"
        self.url = f"http://{self.host}"
        self.pid = self._child.pid
        self.blobs: Counter[str] = Counter()

    def become(self, **how: float) -> None:
        """`latency` seconds a request, `bandwidth` bytes a second for all together (0: no limit), `hang` 1:
        requests are taken and never answered, `cut` bytes after which a body breaks off (0: none does)."""
        self._tell({"become": how})

    def asked(self) -> Counter[str]:
        found = self._tell({"asked": True})
        self.blobs = Counter(found["blobs"])
        return Counter(found["asked"])

    def stop(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait()
        self._child.stdout.close()

    def _tell(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        found: dict[str, Any] = json.loads(self._child.stdout.readline())
        return found


@contextmanager
def proxied(upstream: str, **how: float) -> Iterator[Proxy]:
    """A proxy before the plain HTTP server at `host:port`."""
    proxy = Proxy(upstream)
    try:
        proxy.become(**how)
        yield proxy
    finally:
        proxy.stop()


class _Behaviour:
    """What all connections share."""

    def __init__(self) -> None:
        self.latency = self.bandwidth = self.hang = self.cut = 0.0
        self._asked: Counter[str] = Counter()
        self._blobs: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._free = 0.0  # when the line is free again

    def note(self, head: bytes) -> None:
        method, target = head.split(b" ", 2)[:2]
        found = _KIND.search(target)
        kind = found[1].decode() if found else "base"
        with self._lock:
            self._asked[f"{method.decode()} {_NAMES.get(kind, kind)}"] += 1
            if kind == "blobs" and method == b"GET":
                self._blobs[target.rpartition(b"/")[2].decode()] += 1

    def moved(self, number: int) -> None:
        """Counts, and waits as long as so many bytes keep the line busy."""
        with self._lock:
            self._asked["body bytes"] += number
            if not self.bandwidth:
                return
            self._free = max(self._free, time.monotonic() - 0.02) + number / self.bandwidth
            pause = self._free - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    def taken(self) -> dict[str, Any]:
        with self._lock:
            found = {"asked": dict(self._asked), "blobs": dict(self._blobs)}
            self._asked.clear()
            self._blobs.clear()
        return found


class _Connection:
    def __init__(self, client: socket.socket, upstream: tuple[str, int], behaviour: _Behaviour) -> None:
        self._client, self._behaviour = client, behaviour
        self._upstream = socket.create_connection(upstream)
        for each in (client, self._upstream):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pipe = os.pipe()

    def serve(self) -> None:
        with self._client, self._upstream, suppress(OSError):
            while head := _head(self._client):
                self._behaviour.note(head[0])
                while self._behaviour.hang:
                    time.sleep(0.05)
                time.sleep(self._behaviour.latency)
                self._upstream.sendall(b"".join(head))
                self._hand_on(self._client, self._upstream, (_length(head[0]) or 0) - len(head[1]))
                self._answer(head[0].startswith(b"HEAD"))
        for end in self._pipe:
            os.close(end)

    def _answer(self, bodiless: bool) -> None:  # noqa: FBT001 - the one thing to know
        head, rest = _head(self._upstream) or (b"", b"")
        if not head:
            raise ConnectionError
        self._client.sendall(head)
        length = 0 if bodiless or head.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")) else _length(head)
        self._client.sendall(rest)
        if length is None:
            self._chunked(rest)
            return
        self._behaviour.moved(len(rest))
        self._relay(length - len(rest))

    def _relay(self, left: int) -> None:
        cut = self._behaviour.cut
        self._hand_on(self._upstream, self._client, min(left, int(cut)) if cut else left, count=True)
        if cut and left > cut:
            raise ConnectionError

    def _hand_on(self, source: socket.socket, sink: socket.socket, left: int, *, count: bool = False) -> None:
        while left > 0:
            got = os.splice(source.fileno(), self._pipe[1], min(left, _PIECE))
            if not got:
                raise ConnectionError
            if count:
                self._behaviour.moved(got)
            left -= got
            while got:
                got -= os.splice(self._pipe[0], sink.fileno(), got)

    def _chunked(self, seen: bytes) -> None:
        """To its end, which is the last five bytes: enough for lists of tags."""
        while not seen.endswith(b"0\r\n\r\n"):
            piece = self._upstream.recv(_PIECE)
            if not piece:
                raise ConnectionError
            self._client.sendall(piece)
            self._behaviour.moved(len(piece))
            seen = (seen + piece)[-5:]


def _head(source: socket.socket) -> tuple[bytes, bytes] | None:
    """A head, and what came behind it; None when the other side is done."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = source.recv(65536)
        if not piece:
            return None
        data += piece
        if data.startswith(_TLS):
            return None  # skopeo tries https first, and waits for an answer
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _length(head: bytes) -> int | None:
    """Of the body; None when it comes in chunks."""
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if found:
        return int(found[1])
    return None if re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE) else 0


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    behaviour = _Behaviour()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    threading.Thread(target=_accept, args=(listener, (host, int(port)), behaviour), daemon=True).start()
    for line in sys.stdin:
        order = json.loads(line)
        for name, value in order.get("become", {}).items():
            setattr(behaviour, name, value)
        print(json.dumps(behaviour.taken() if "asked" in order else {}), flush=True)


def _accept(listener: socket.socket, upstream: tuple[str, int], behaviour: _Behaviour) -> None:
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_serve, args=(client, upstream, behaviour), daemon=True).start()


def _serve(client: socket.socket, upstream: tuple[str, int], behaviour: _Behaviour) -> None:
    with suppress(OSError):
        _Connection(client, upstream, behaviour).serve()


if __name__ == "__main__":
    main()
