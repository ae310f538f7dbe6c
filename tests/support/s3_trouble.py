"""A proxy before an S3 server that does to requests what networks and overloaded servers do."""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Trouble = str
"""What happens to a request: one of the names below; "" passes it on."""

SLOW_DOWN: Final = "slow down"  # 503, as S3 throttles
TOO_MANY: Final = "too many"  # 429, as Google throttles
BROKEN: Final = "broken"  # 500
UNHEARD: Final = "unheard"  # the connection breaks before the server gets the request
UNANSWERED: Final = "unanswered"  # the server carries it out, and its answer is lost
SILENT: Final = "silent"  # no answer, and the connection stays
BUSY: Final = "busy"  # 409: others write the same object at this moment
HTML_404: Final = "404"  # of some other web server
REDIRECT: Final = "301"  # of a bucket in another region
NO_SPACE: Final = "507"
_CODES: Final = {SLOW_DOWN: (503, "SlowDown"), TOO_MANY: (429, "SlowDown"), BROKEN: (500, "InternalError"),
                 BUSY: (409, "ConditionalRequestConflict"), REDIRECT: (301, "PermanentRedirect"),
                 NO_SPACE: (507, "InsufficientStorage")}  # fmt: skip


@dataclass
class TroubledS3:
    """`plan` says what happens to the n-th request (from 0) of a method, as long as it has something to say.

    `delay` in seconds is added to each answer, as by a server that is far away.
    """

    url: str = ""
    plan: Callable[[str, int], Trouble] = field(default=lambda _method, _number: "")
    delay: float = 0.0
    seen: list[str] = field(default_factory=list)

    def do(self, *troubles: Trouble, method: str = "PUT") -> None:
        """These happen to the next requests of a method, one after the other."""
        left = [*troubles]
        self.plan = lambda found, _: left.pop(0) if found == method and left else ""


@contextmanager
def troubled(target: str) -> Iterator[TroubledS3]:
    """A proxy on a free port before the server `target`."""
    trouble = TroubledS3()

    class Handler(_Handler):
        state = trouble
        host = urlsplit(target).netloc

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    trouble.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield trouble
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: TroubledS3
    host: str

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        number = sum(each == self.command for each in self.state.seen)
        self.state.seen.append(self.command)
        trouble = self.state.plan(self.command, number)
        time.sleep(self.state.delay)
        if trouble in _CODES:
            status, code = _CODES[trouble]
            self._answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
        elif trouble == HTML_404:
            self._answer(404, {}, b"<html>There is no such page</html>")
        elif trouble == SILENT:
            time.sleep(5)
            self.close_connection = True
        elif trouble == UNHEARD:
            self.close_connection = True
        else:
            self._pass_on(body, lose_answer=trouble == UNANSWERED)

    def _pass_on(self, body: bytes, *, lose_answer: bool) -> None:
        try:
            status, headers, answer = self._forward(body)
        except OSError:  # the server ended the connection, as it may when an upload is aborted
            self.close_connection = True
            return
        if lose_answer:
            self.close_connection = True
        else:
            self._answer(status, headers, answer)

    def __getattr__(self, name: str) -> Callable[[], None]:
        """`do_GET` and all others."""
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        with closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # Host too: it is a part of what was signed
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # a client that waited for too long
                self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: what was seen is in `seen`."""
