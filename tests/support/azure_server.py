"""As much of Azure Blob Storage as the driver uses, over real sockets, in memory.

Made by the reference of its REST API ("Put Blob", "Put Block List", "List Blobs", "Blob Batch"): a condition
that does not hold is 409 for a new blob and 412 for an ETag, and what is not there cannot be deleted.
"""

from __future__ import annotations

import itertools
import re
import threading
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = 1_000


@dataclass
class Held:
    content: bytes
    etag: str
    modified: float = field(default_factory=time)


@dataclass
class AzureServer:
    """One container. `environment` is what makes obstore use it, as the account `account`."""

    url: str = ""
    container: str = "container"
    blobs: dict[str, Held] = field(default_factory=dict)
    blocks: dict[str, dict[str, bytes]] = field(default_factory=dict)
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        return {"AZURE_STORAGE_ACCOUNT_KEY": b64encode(b"not for messages").decode()}

    def put(self, key: str, content: bytes, if_match: str | None, if_none_match: str | None) -> Held | str:
        """The blob, or the code of the error."""
        with self.lock:
            held = self.blobs.get(key)
            if if_none_match == "*" and held is not None:
                return "BlobAlreadyExists"
            if if_match is not None and (held is None or held.etag != if_match):
                return "ConditionNotMet"
            self.blobs[key] = Held(content, f'"0x{next(self.versions):X}"')
            return self.blobs[key]


@contextmanager
def running_azure() -> Iterator[AzureServer]:
    """A server on a free port of 127.0.0.1."""
    state = AzureServer()

    class Handler(_Handler):
        azure = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    azure: AzureServer

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        container, _, key = url.path[1:].partition("/")
        self.key = unquote(key)
        if container != self.azure.container:
            self._fail(404, "ContainerNotFound")
        elif self.query.get("comp") == "list":
            self._list()
        elif self.query.get("comp") == "batch":
            self._batch()
        else:
            {"GET": self._get, "HEAD": self._get, "PUT": self._put}[self.command]()

    def _get(self) -> None:
        held = self.azure.blobs.get(self.key)
        if held is None:
            return self._fail(404, "BlobNotFound")
        if self.headers.get("If-None-Match") == held.etag:
            return self._answer(304, b"", held)
        if asked := self.headers.get("Range"):
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            part = held.content[int(begin) : int(end) + 1 if end else None]
            span = f"bytes {begin}-{int(begin) + len(part) - 1}/{len(held.content)}"
            return self._answer(206, part, held, {"Content-Range": span})
        return self._answer(200, held.content, held)

    def _put(self) -> None:
        content = self.body
        if self.query.get("comp") == "block":
            self.azure.blocks.setdefault(self.key, {})[self.query["blockid"]] = content
            return self._answer(201, b"")
        if self.query.get("comp") == "blocklist":
            blocks = self.azure.blocks.pop(self.key)
            content = b"".join(blocks[name] for name in re.findall(r">([\w+/=]+)</", content.decode()))
        if source := self.headers.get("x-ms-copy-source"):
            copied = self.azure.blobs.get(unquote(urlsplit(source).path).split("/", 2)[2])
            if copied is None:
                return self._fail(404, "BlobNotFound")
            content = copied.content
        put = self.azure.put(
            self.key, content, self.headers.get("If-Match"), self.headers.get("If-None-Match")
        )
        if isinstance(put, str):
            return self._fail(409 if put == "BlobAlreadyExists" else 412, put)
        return self._answer(202 if source else 201, b"", put, {"x-ms-copy-status": "success"})

    def _batch(self) -> None:
        """Deletions only: each has an answer of its own."""
        boundary = self.headers["Content-Type"].partition("boundary=")[2]
        answers = []
        for number, path in enumerate(re.findall(rb"DELETE (\S+) HTTP", self.body)):
            key = unquote(urlsplit(path.decode()).path).split("/", 2)[2]
            gone = self.azure.blobs.pop(key, None)
            status = "202 Accepted" if gone else "404 The specified blob does not exist."
            code = "" if gone else "x-ms-error-code: BlobNotFound\r\n"
            answers.append(
                f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
                f"HTTP/1.1 {status}\r\n{code}x-ms-request-id: {number}\r\n\r\n"
            )
        body = ("".join(answers) + f"--{boundary}--").encode()
        self._answer(202, body, None, {"Content-Type": f"multipart/mixed; boundary={boundary}"})

    def _list(self) -> None:
        prefix = self.query.get("prefix", "")
        begin = max(self.query.get("startFrom", ""), self.query.get("marker", ""))
        keys = [key for key in sorted(self.azure.blobs) if key.startswith(prefix) and key >= begin]
        delimited = "delimiter" in self.query
        direct = [key for key in keys if not (delimited and "/" in key[len(prefix) :])]
        below = (key for key in keys if delimited and "/" in key[len(prefix) :])
        folders = {prefix + key[len(prefix) :].partition("/")[0] + "/" for key in below}
        entries = "".join(_entry(key, self.azure.blobs[key]) for key in direct[:PAGE])
        common = "".join(f"<BlobPrefix><Name>{escape(each)}</Name></BlobPrefix>" for each in sorted(folders))
        marker = escape(direct[PAGE]) if direct[PAGE:] else ""
        text = f"<Blobs>{entries}{common}</Blobs><NextMarker>{marker}</NextMarker>"
        self._answer(200, f"<EnumerationResults>{text}</EnumerationResults>".encode())

    def _fail(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code></Error>".encode()
        self._answer(status, body, None, {"x-ms-error-code": code})

    def _answer(
        self, status: int, body: bytes, held: Held | None = None, more: dict[str, str] | None = None
    ) -> None:
        self.send_response_only(status)
        headers = dict(more or {})
        if held is not None:
            headers |= {"ETag": held.etag, "Last-Modified": formatdate(held.modified, usegmt=True)}
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 304:
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _entry(key: str, held: Held) -> str:
    return (
        f"<Blob><Name>{escape(key)}</Name><Properties>"
        f"<Creation-Time>{formatdate(held.modified, usegmt=True)}</Creation-Time>"
        f"<Last-Modified>{formatdate(held.modified, usegmt=True)}</Last-Modified>"
        f"<Etag>{escape(held.etag)}</Etag><Content-Length>{len(held.content)}</Content-Length>"
        "<Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType>"
        "</Properties></Blob>"
    )
