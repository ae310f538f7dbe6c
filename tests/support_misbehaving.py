"""A registry over real sockets that does what it is told, also what no registry should.

upstream.add_image("library/nginx", "1.25", layers=[b"..."])         # well behaved
upstream.on("/v2/library/nginx/manifests/1.25", answers(503))        # from now on
upstream.on(path, answers(503), well_behaved)                        # once, then as before
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from tests.support_behaviours import (
    answers,
    endless,
    hangs,
    hangs_in_body,
    json_answer,
    redirects,
    reset_in_body,
    resets,
    says,
    truncated,
    well_behaved,
)

# What it can be told to do stands in a file of its own, and is imported from here.
__all__ = [
    "Exchange",
    "Image",
    "Misbehaving",
    "Seen",
    "answers",
    "endless",
    "hangs",
    "hangs_in_body",
    "json_answer",
    "misbehaving",
    "redirects",
    "reset_in_body",
    "resets",
    "says",
    "truncated",
    "well_behaved",
]

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    Behaviour = Callable[["Exchange"], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


class Exchange:
    """A request that waits for its answer."""

    def __init__(self, seen: Seen, handler: BaseHTTPRequestHandler, upstream: Misbehaving) -> None:
        self.seen = seen
        self._handler = handler
        self.upstream = upstream

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Content-Length is set unless `headers` says otherwise (an empty one: none at all)."""
        found = {"Content-Length": str(len(body))} | dict(headers or {})
        self._handler.send_response(status)
        for name, value in found.items():
            if value:
                self._handler.send_header(name, value)
        self._handler.end_headers()
        if self.seen.method != "HEAD":
            self.write(body)

    def write(self, data: bytes) -> None:
        with suppress(OSError):  # a client that has heard enough
            self._handler.wfile.write(data)
            self._handler.wfile.flush()

    def alive(self) -> bool:
        return not self.upstream.closing.is_set()

    def close(self) -> None:
        self._handler.close_connection = True

    def reset(self) -> None:
        """RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._handler.connection.close()
        self.close()

    def hang(self) -> None:
        """Until the client goes away or the test is over."""
        connection = self._handler.connection
        connection.settimeout(0.05)
        while self.alive():
            with suppress(TimeoutError):
                try:
                    if not connection.recv(1):
                        break
                except OSError as error:
                    if not isinstance(error, TimeoutError):
                        break
        self.close()


@dataclass(frozen=True, slots=True)
class Image:
    manifest: Descriptor
    body: bytes
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(slots=True)
class _Repository:
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # by tag and by digest
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)


class Misbehaving:
    """`host` is `127.0.0.1:port` unless another address is asked for; `seen` all requests so far."""

    def __init__(self, address: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        upstream = self
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self.repositories: dict[str, _Repository] = {}
        self.before: Behaviour | None = None
        self._routes: dict[str, list[Behaviour]] = {}
        self._lock = threading.Lock()

        class Handler(_Handler):
            owner = upstream

        self._server = _Server((address, 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        return f"{self._server.server_address[0]!s}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def on(self, path: str, *behaviours: Behaviour) -> None:
        """What a path (without query) does, in this order; the last one from then on."""
        with self._lock:
            self._routes[path] = list(behaviours)

    def requests(self, method: str = "", path: str = "") -> list[Seen]:
        with self._lock:
            return [each for each in self.seen if method in ("", each.method) and path in each.target]

    def add_blob(
        self, repository: str, content: bytes, media_type: str = "application/octet-stream"
    ) -> Descriptor:
        self._repository(repository).blobs[Digest.of(content)] = content
        return Descriptor(media_type, Digest.of(content), len(content))

    def add_manifest(self, repository: str, tag: str, body: bytes, media_type: str) -> Descriptor:
        found = self._repository(repository)
        digest = Digest.of(body)
        found.manifests[digest] = found.manifests[tag] = (media_type, body)
        if tag not in found.tags and ":" not in tag:
            found.tags.append(tag)
        return Descriptor(media_type, digest, len(body))

    def add_image(self, repository: str, tag: str, layers: tuple[bytes, ...] = (b"layer",)) -> Image:
        config = self.add_blob(repository, b"{}", media_types.OCI_CONFIG)
        blobs = tuple(self.add_blob(repository, each) for each in layers)
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": config.to_json(),
            "layers": [each.to_json() for each in blobs],
        }
        body = json.dumps(document).encode()
        return Image(self.add_manifest(repository, tag, body, media_types.OCI_MANIFEST), body, config, blobs)

    def _repository(self, name: str) -> _Repository:
        return self.repositories.setdefault(name, _Repository())

    def handle(self, exchange: Exchange) -> None:
        with self._lock:
            self.seen.append(exchange.seen)
            queue = self._routes.get(exchange.seen.path, [well_behaved])
            behaviour = queue.pop(0) if len(queue) > 1 else queue[0]
        behaviour(exchange)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5  # seconds that an idle connection stays
    disable_nagle_algorithm = True  # heads and bodies are written apart: 40 ms an answer otherwise
    owner: Misbehaving

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.owner.handle(Exchange(Seen(self.command, self.path, headers, body), self, self.owner))

    do_GET = do_HEAD = do_POST = _any  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass


@contextmanager
def misbehaving(address: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> Iterator[Misbehaving]:
    with Misbehaving(address, context) as upstream:
        yield upstream
