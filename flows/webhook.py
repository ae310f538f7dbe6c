"""The receiver of misses: a signed POST in, an answer in JSON out (docs/on-demand.md).

One thread a call, because each waits for an upstream; the socket is given, so that callers wait in its queue
while a killed receiver is started anew.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from registry_server.http.calling import marks_in
from registry_server.http.paging import LONGEST_PAGE
from registry_server.http.signature import SIGNATURE, TIMESTAMP, CallRefused, Seen, check
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, parse_reference
from tasks.on_demand.answers import Miss, Place, TagPage

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tasks.on_demand.answers import Answer, Question

log = logging.getLogger("mirrorflow.webhook")

MAX_BODY = 16 * 1024  # bytes
_SLOW = 10.0  # seconds for the request to arrive
_LONGEST_WAIT = 3600.0
_MARGIN = 0.5  # seconds before the caller hangs up


class BadCall(Exception):
    """`status` and a sentence; the caller is no friend, or a bug."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Receiver:
    """Serves the listening socket `listener` until `close`. `answer` gets the miss and the seconds it has."""

    def __init__(
        self,
        listener: socket.socket,
        secret: bytes,
        answer: Callable[[Miss | TagPage, float], Answer],
        *,
        resolve: Callable[[Place], Answer],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._answer = answer
        self._resolve = resolve
        self._clock = clock
        self._seen = Seen()
        self._server = ThreadingHTTPServer(
            listener.getsockname()[:2], self._handler(), bind_and_activate=False
        )
        self._server.socket.close()
        self._server.socket = listener
        self._server.daemon_threads = True
        self._server.block_on_close = False

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(_Handler):
            def answer(self, timestamp: str, signature: str, body: bytes) -> dict[str, Any]:
                return receiver.take(timestamp, signature, body)

        return Handler

    def take(self, timestamp: str, signature: str, body: bytes) -> dict[str, Any]:
        """One call: the answer's JSON. Raises `BadCall`."""
        now = self._clock()
        try:
            check(self._secret, timestamp, signature, body, now=now)
            called = read_call(body)
            if not self._seen.first_time(called.id, now=now):
                raise CallRefused("this call was made before")
        except CallRefused as error:
            log.warning("a call was refused: %s", error)
            raise BadCall(401, str(error)) from error
        question = called.question
        if isinstance(question, Place):
            return self._resolve(question).to_json()
        return self._answer(question, called.wait).to_json()


@dataclass(frozen=True, slots=True)
class Call:
    """`wait` in seconds."""

    id: str
    question: Question
    wait: float


def read_call(body: bytes) -> Call:
    """Raises `BadCall`."""
    try:
        found = json.loads(body)
        if found["version"] != 1:
            raise BadCall(400, "`version` must be 1")
        wait = min(max(float(found.get("timeout", 60)), 0.0), _LONGEST_WAIT)
        return Call(str(found["id"]), _question(found), max(wait - _MARGIN, wait / 2))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise BadCall(400, f"the body is not what docs/on-demand.md says: {error}") from error


def _question(found: dict[str, Any]) -> Question:
    kind, name = found["kind"], RepositoryName(str(found["repository"]))
    via = tuple(each for each in found.get("via", ()) if marks_in(each) == [each])
    match kind:
        case "resolve" if "entry" in found:
            return Place(name, entry=str(found["entry"]))
        case "resolve":
            return Place(name, namespace=str(found["namespace"]))
        case "tags":
            limit = min(max(int(found["limit"]), 0), LONGEST_PAGE + 1)
            return TagPage(name, str(found.get("last", "")), limit, via)
        case "manifest":
            return Miss(kind, name, parse_reference(str(found["reference"])), via)
        case "blob" | "referrers":
            return Miss(kind, name, Digest(str(found["reference"])), via)
    raise BadCall(400, "`kind` must be manifest, blob, referrers, tags or resolve")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SLOW

    def answer(self, timestamp: str, signature: str, body: bytes) -> dict[str, Any]:
        raise NotImplementedError

    def do_POST(self) -> None:
        """The only method that there is."""
        try:
            body = self._body()
            found = self.answer(self.headers.get(TIMESTAMP, ""), self.headers.get(SIGNATURE, ""), body)
            self._send(200, found)
        except BadCall as error:
            self._send(error.status, {"error": str(error)})
        except OSError:
            return  # whoever asked is gone; what it asked for goes on
        except Exception:
            log.exception("a call failed")
            self._send(500, {"error": "the receiver failed; its log says why"})

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            raise BadCall(411, "a Content-Length is required")
        if len(length) > 9 or int(length) > MAX_BODY:
            raise BadCall(413, f"a call has at most {MAX_BODY} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise BadCall(400, "the body is shorter than its Content-Length")
        return body

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
        """Not on standard error: the registry's access log has every request already."""
