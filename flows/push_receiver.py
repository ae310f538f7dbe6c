"""The port for notifications of pushes (`sync.notifications`): open to others, so it gives away nothing.

One thread a call, of which there are few at a time; each has some seconds in all, and a bounded body.
"""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from flows.notifications import NotificationRefused, read_notification
from tasks.on_demand.answers import TooManyPushes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tasks.on_demand.answers import Push

    Answer = Callable[[str, dict[str, str], bytes], tuple[int, dict[str, Any]]]

log = logging.getLogger("mirrorflow.notifications")

MAX_BODY: Final = 1024 * 1024  # bytes: zot sends the manifest along
_SECONDS: Final = 15.0  # for a whole call
_AT_ONCE: Final = 32


class PushReceiver:
    """Serves `listener` until `close`; `take` gets each push, and says how many syncs come of it."""

    def __init__(
        self,
        listener: socket.socket,
        secret: bytes,
        take: Callable[[Push], int],
        *,
        seconds: float = _SECONDS,
    ) -> None:
        self._secret, self._take = secret, take
        self._server = _Server(listener, self.answer, seconds)

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, target: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body: 202 with the number of syncs, which have begun."""
        try:
            pushes = read_notification(target, headers, body, self._secret)
            return 202, {"syncs": sum(self._take(push) for push in pushes)}
        except NotificationRefused as refused:
            log.warning("a notification was refused with %d: %s", refused.status, refused)
            return refused.status, {"error": str(refused)}
        except TooManyPushes as error:
            return 503, {"error": str(error)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, answer: Answer, seconds: float) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.answer, self.seconds = answer, seconds
        self.socket.close()
        self.socket = listener
        self._room = threading.BoundedSemaphore(_AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Whoever comes when all threads are busy is hung up on: senders try again."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke; there is nothing to be said about it."""


class _Bounded(io.RawIOBase):
    """A connection to read from until a deadline: a byte now and then does not keep it open."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Bounded(self.connection, self.server.seconds))

    def do_POST(self) -> None:
        """The only method that there is."""
        try:
            self._send(*self._answer())
        except OSError:
            self.close_connection = True

    def _answer(self) -> tuple[int, dict[str, Any]]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            return 411, {"error": "a Content-Length is required"}
        if len(length) > 9 or int(length) > MAX_BODY:
            return 413, {"error": f"a notification has at most {MAX_BODY} bytes"}
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return 400, {"error": "the body is shorter than its Content-Length"}
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            return self.server.answer(self.path, headers, body)
        except Exception:
            log.exception("a notification failed")
            return 500, {"error": "the receiver failed; its log says why"}

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "mirrorflow"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
        """Not at all: a path may hold the secret."""
