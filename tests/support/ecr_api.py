"""A stand-in for the API of Amazon ECR: it makes repositories in a `PushTarget`."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.push_target import PushTarget

_TARGET = "AmazonEC2ContainerRegistry_V20150921.CreateRepository"


@dataclass
class EcrApi:
    """`made` are the requests; `refuses` is the error of every request."""

    target: PushTarget
    refuses: tuple[int, str] | None = None
    made: list[dict[str, Any]] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: EcrApi

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.api.signed.append(self.headers.get("Authorization", ""))
        assert self.headers["X-Amz-Target"] == _TARGET
        self._send(*self._answer(body))

    def _answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.api.refuses is not None:
            status, code = self.api.refuses
            return status, {"__type": code, "message": "no"}
        known = self.api.target.known
        assert known is not None, "the registry knows its repositories"
        name = body["repositoryName"]
        if name in known:
            return 400, {"__type": "RepositoryAlreadyExistsException", "message": f"{name} exists"}
        self.api.made.append(body)
        known.add(name)
        return 200, {"repository": {"repositoryName": name}}

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass


@contextmanager
def ecr_api(target: PushTarget, refuses: tuple[int, str] | None = None) -> Iterator[EcrApi]:
    api = EcrApi(target, refuses)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
