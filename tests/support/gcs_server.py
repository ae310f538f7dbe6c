"""As much of Google Cloud Storage's XML API as the driver uses, over real sockets, in memory.

No emulator that can be had here speaks the XML API, which obstore uses. This one is made by the reference of
that API ("XML API overview", "Request preconditions"): conditions are on generations, which no listing tells.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import gmtime, strftime, time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = 1_000


@dataclass
class Held:
    content: bytes
    generation: int
    modified: float = field(default_factory=time)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"'


@dataclass
class GcsServer:
    """One bucket. `environment` is what makes obstore use it."""

    url: str = ""
    bucket: str = "bucket"
    objects: dict[str, Held] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    generations: Iterator[int] = field(default_factory=lambda: itertools.count(1_000))
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        key = {"gcs_base_url": self.url, "disable_oauth": True}
        key |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key)}

    def put(self, key: str, content: bytes, generation_match: str | None = None) -> Held | None:
        """None where the condition does not hold; 0 means that there is no object."""
        with self.lock:
            held = self.objects.get(key)
            if generation_match is not None and int(generation_match) != (held.generation if held else 0):
                return None
            self.objects[key] = Held(content, next(self.generations))
            return self.objects[key]


@contextmanager
def running_gcs() -> Iterator[GcsServer]:
    """A server on a free port of 127.0.0.1."""
    state = GcsServer()

    class Handler(_Handler):
        gcs = state

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
    gcs: GcsServer

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        bucket, _, key = url.path[1:].partition("/")
        self.key = unquote(key)
        if bucket != self.gcs.bucket:
            self._fail(404, "NoSuchBucket")
        elif not key:
            self._list()
        elif "uploads" in self.query or "uploadId" in self.query:
            self._multipart()
        else:
            {"GET": self._get, "HEAD": self._get, "PUT": self._put, "DELETE": self._delete}[self.command]()

    def _get(self) -> None:
        held = self.gcs.objects.get(self.key)
        if held is None:
            return self._fail(404, "NoSuchKey")
        if self.headers.get("If-None-Match") == held.etag:
            return self._answer(304, b"", held)
        if asked := self.headers.get("Range"):
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            part = held.content[int(begin) : int(end) + 1 if end else None]
            last = int(begin) + len(part) - 1
            return self._answer(
                206, part, held, {"Content-Range": f"bytes {begin}-{last}/{len(held.content)}"}
            )
        return self._answer(200, held.content, held)

    def _put(self) -> None:
        content = self.body
        if source := self.headers.get("x-goog-copy-source"):
            copied = self.gcs.objects.get(unquote(source).partition("/")[2])
            if copied is None:
                return self._fail(404, "NoSuchKey")
            content = copied.content
        held = self.gcs.put(self.key, content, self.headers.get("x-goog-if-generation-match"))
        return self._answer(200, b"", held) if held else self._fail(412, "PreconditionFailed")

    def _delete(self) -> None:
        held = self.gcs.objects.pop(self.key, None)
        return self._answer(204, b"") if held else self._fail(404, "NoSuchKey")

    def _multipart(self) -> None:
        identity = self.query.get("uploadId", "")
        if "uploads" in self.query:
            identity = f"upload-{next(self.gcs.generations)}"
            self.gcs.uploads[identity] = {}
            text = "<InitiateMultipartUploadResult><UploadId>{}</UploadId></InitiateMultipartUploadResult>"
            return self._answer(200, text.format(identity).encode())
        if self.command == "PUT":
            self.gcs.uploads[identity][int(self.query["partNumber"])] = self.body
            return self._answer(200, b"", Held(self.body, 0))
        parts = self.gcs.uploads.pop(identity)
        if self.command == "DELETE":
            return self._answer(204, b"")
        held = self.gcs.put(self.key, b"".join(parts[number] for number in sorted(parts)))
        assert held is not None
        text = f"<CompleteMultipartUploadResult><ETag>{held.etag}</ETag></CompleteMultipartUploadResult>"
        return self._answer(200, text.encode(), held)

    def _list(self) -> None:
        prefix, after = self.query.get("prefix", ""), self.query.get("start-after", "")
        after = max(after, self.query.get("continuation-token", ""))
        keys = [key for key in sorted(self.gcs.objects) if key.startswith(prefix) and key > after]
        delimited = "delimiter" in self.query
        direct = [key for key in keys if not (delimited and "/" in key[len(prefix) :])]
        folders = {
            prefix + key[len(prefix) :].partition("/")[0] + "/" for key in keys if key not in {*direct}
        }
        page = direct[:PAGE]
        entries = "".join(_entry(key, self.gcs.objects[key]) for key in page)
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders)
        )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if direct[PAGE:] else ""
        self._answer(200, f"<ListBucketResult>{entries}{common}{more}</ListBucketResult>".encode())

    def _fail(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def _answer(
        self, status: int, body: bytes, held: Held | None = None, more: dict[str, str] | None = None
    ) -> None:
        self.send_response_only(status)
        headers = dict(more or {})
        if held is not None:
            headers |= {
                "ETag": held.etag,
                "x-goog-generation": str(held.generation),
                "Last-Modified": formatdate(held.modified, usegmt=True),
            }
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _entry(key: str, held: Held) -> str:
    # As Google does it: to the millisecond, which `Last-Modified` does not tell.
    when = f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(held.modified))}.{int(held.modified % 1 * 1000):03}Z"
    return (
        f"<Contents><Key>{escape(key)}</Key><Size>{len(held.content)}</Size>"
        f"<LastModified>{when}</LastModified><ETag>{escape(held.etag)}</ETag></Contents>"
    )
