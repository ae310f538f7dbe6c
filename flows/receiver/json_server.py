"""An HTTP server for small JSON POSTs over a socket that is given: both ports of the receiver stand on it.

One thread a call. A call has some seconds in all to arrive and a bounded body, and there are only so many at
a time: a byte now and then holds nothing open, and whoever comes when all threads are busy is hung up on.
"""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    # Target (path and query), headers with names in lower case, body; status and document.
    Answer = Callable[[str, dict[str, str], bytes], tuple[int, dict[str, Any]]]

log = logging.getLogger("mirrorflow.receiver")


class JsonPostServer(ThreadingHTTPServer):
    """Serves `listener` until `close`. `max_body` in bytes; a request has `seconds` to arrive."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, listener: socket.socket, answer: Answer, *, max_body: int, seconds: float, at_once: int
    ) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.answer, self.max_body, self.seconds = answer, max_body, seconds
        self.socket.close()
        self.socket = listener
        self._room = threading.BoundedSemaphore(at_once)

    def serve(self) -> None:
        self.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, if there is room."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the machine gives us no further thread
            self._room.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke; there is nothing to be said about it."""


class _DeadlineReader(io.RawIOBase):
    """A connection to read from until a deadline."""

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
    server: JsonPostServer

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_DeadlineReader(self.connection, self.server.seconds))

    def do_POST(self) -> None:
        """The only method that there is. Whoever hangs up meanwhile cancels nothing."""
        try:
            self._send(*self._answer())
        except OSError:
            self.close_connection = True

    def _answer(self) -> tuple[int, dict[str, Any]]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            return 411, {"error": "a Content-Length is required"}
        if len(length) > 9 or int(length) > self.server.max_body:
            return 413, {"error": f"the body may have at most {self.server.max_body} bytes"}
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return 400, {"error": "the body is shorter than its Content-Length"}
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            return self.server.answer(self.path, headers, body)
        except Exception:
            log.exception("a call failed")
            return 500, {"error": "the receiver failed; see its log"}

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
        """Not at all: a path may hold a secret, and the registry's log has every request already."""
