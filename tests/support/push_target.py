"""A registry that is pushed to, over real sockets, and that can be told to misbehave as registries do.
It keeps what it is sent and checks digests. `seen` has every request with the status of its answer."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from registry_server.oci.digest import Digest
from tests.support.registry_answers import error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.registry_answers import Answer

_PIECE = 64 * 1024


@dataclass
class _Upload:
    repository: str
    data: bytearray = field(default_factory=bytearray)


@dataclass
class PushTarget:
    """`cuts`: after how many bytes of a blob's request the connection is reset, one request each.

    `forgets`: an upload that was cut is unknown afterwards. `immutable`: what a tag that moves is answered.
    `quota`: what every blob is answered. `lists_referrers`, `lists_tags`: it has these APIs. `tokens`: it
    wants bearer tokens, which only `login` gets; `expire` makes all useless. `known`: only these are there.
    `lose_answers`: so many blobs are stored without an answer. `deletes`: whether tags can be deleted.
    `page`: how many tags a list has. `claims`: blobs that it says to have mounted, and has not.
    `least` is its OCI-Chunk-Min-Length.
    `refuses_mounts`: it opens no upload where a mount is asked for that it does not make.
    """

    cuts: list[int] = field(default_factory=list)
    forgets: bool = False
    mounts: bool = True
    least: str = ""
    refuses_mounts: bool = False
    immutable: Callable[[str, str], Answer] | None = None
    quota: Answer | None = None
    refuses_pushes: Answer | None = None
    lists_referrers: bool = True
    lists_tags: bool = True
    tokens: bool = False
    login: str = ""
    known: set[str] | None = None
    lose_answers: int = 0
    deletes: bool = True
    page: int = 1000
    claims: set[str] = field(default_factory=set)
    refused_tags: dict[tuple[str, str], Answer] = field(default_factory=dict)
    blobs: defaultdict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    manifests: defaultdict[str, dict[str, tuple[str, bytes]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    seen: list[tuple[str, str, int]] = field(default_factory=list)
    received: Counter[str] = field(default_factory=Counter)
    uploads: dict[str, _Upload] = field(default_factory=dict)
    valid: set[str] = field(default_factory=set)
    scopes: list[str] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        return self.url.partition("//")[2]

    def expire(self) -> None:
        self.valid.clear()

    def counts(self) -> Counter[str]:
        """What was asked since the last call: "PUT manifests" -> 2."""
        with self.lock:
            found = Counter(f"{method} {_kind(path)}" for method, path, _ in self.seen)
            self.seen.clear()
        return found

    def tag(self, repository: str, tag: str) -> str:
        """The digest that it names; "" for none."""
        found = self.manifests[repository].get(tag)
        return Digest.of(found[1]) if found else ""


_KINDS = ("uploads", "manifests", "blobs", "tags", "token")


def _kind(path: str) -> str:
    return next((each for each in _KINDS if f"/{each}" in path), "ping")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5
    disable_nagle_algorithm = True
    target: PushTarget

    def _any(self) -> None:
        self._answered = False
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        try:
            answer = self._route(parts.path)
        except ConnectionResetError:
            return
        if answer is not None:
            self._send(*answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - http.server's names

    def _route(self, path: str) -> Answer | None:
        if path == "/token":
            return self._token()
        if self.target.tokens and not self._is_let_in():
            return self._challenge(path)
        if path == "/v2/":
            return 200, {}, {}
        routes = {
            "/tags/list": self._tags,
            "/blobs/uploads/": self._uploads,
            "/blobs/": self._blob,
            "/manifests/": self._manifest,
        }
        for kind, handle in routes.items():
            head, found, rest = path.rpartition(kind)
            if found:
                return handle(head.removeprefix("/v2/"), rest)
        return error(404, "UNSUPPORTED", "no such route")

    def _token(self) -> Answer:
        if self.target.login not in ("", self.headers.get("Authorization")):
            return error(401, "UNAUTHORIZED", "nobody")
        token = f"token-{len(self.target.scopes)}"
        self.target.scopes += self.query.get("scope", [])
        self.target.valid.add(token)
        return 200, {"token": token, "expires_in": 3600}, {}

    def _is_let_in(self) -> bool:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in self.target.valid

    def _challenge(self, path: str) -> Answer:
        repository = path.removeprefix("/v2/").partition("/blobs/")[0].partition("/manifests/")[0]
        self._skip_body()
        scope = f"repository:{repository}:pull,push"
        challenge = f'Bearer realm="{self.target.url}/token",service="target",scope="{scope}"'
        return 401, error(401, "UNAUTHORIZED", "token expired")[1], {"WWW-Authenticate": challenge}

    def _uploads(self, repository: str, session: str) -> Answer | None:
        if self.target.known is not None and repository not in self.target.known:
            self._skip_body()
            return error(404, "NAME_UNKNOWN", f"The repository with name '{repository}' does not exist")
        if self.command == "POST":
            return self.target.refuses_pushes or self._begin(repository)
        upload = self.target.uploads.get(session)
        if upload is None:
            self._skip_body()
            return error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
        if self.command == "DELETE":
            del self.target.uploads[session]
            return 204, None, {}
        if self.command == "GET":
            return 204, None, self._place(repository, session, upload)
        return self._receive(repository, session, upload)

    def _begin(self, repository: str) -> Answer:
        digest, source = self.query.get("mount", [""])[0], self.query.get("from", [""])[0]
        mounted = self.target.blobs[source].get(digest) if self.target.mounts else None
        if mounted is not None:
            if digest not in self.target.claims:
                self.target.blobs[repository][digest] = mounted
            return 201, None, {"Location": f"/v2/{repository}/blobs/{digest}"}
        if digest and self.target.refuses_mounts:
            return error(403, "DENIED", "requested access to the resource is denied")
        session = f"s{len(self.target.seen)}-{id(self)}"
        self.target.uploads[session] = upload = _Upload(repository)
        least = {"OCI-Chunk-Min-Length": self.target.least} if self.target.least else {}
        return 202, None, self._place(repository, session, upload) | least

    def _place(self, repository: str, session: str, upload: _Upload) -> dict[str, str]:
        last = max(len(upload.data) - 1, 0)
        return {"Location": f"/v2/{repository}/blobs/uploads/{session}?state=1", "Range": f"0-{last}"}

    def _receive(self, repository: str, session: str, upload: _Upload) -> Answer | None:
        if self.target.quota is not None:
            self.close_connection = True  # the body is not read: its sender finds the answer
            return self.target.quota
        start = self.headers.get("Content-Range", "").partition("-")[0]
        if start and int(start) != len(upload.data):
            self._skip_body()
            return 416, None, self._place(repository, session, upload)
        self._read_into(session, upload)
        if self.command == "PATCH":
            return 202, None, self._place(repository, session, upload)
        return self._complete(repository, session, upload)

    def _complete(self, repository: str, session: str, upload: _Upload) -> Answer | None:
        digest = self.query["digest"][0]
        if Digest.of(bytes(upload.data)) != digest:
            return error(400, "DIGEST_INVALID", "not what was promised")
        self.target.blobs[repository][digest] = bytes(upload.data)
        del self.target.uploads[session]
        if self.target.lose_answers:
            self.target.lose_answers -= 1
            self._reset()
        return 201, None, {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest}

    def _read_into(self, session: str, upload: _Upload) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        cut = self.target.cuts.pop(0) if self.target.cuts and left else None
        most = left if cut is None else min(cut, left)
        while most:
            piece = self.rfile.read(min(most, _PIECE))
            if not piece:
                raise ConnectionResetError
            upload.data += piece
            self.target.received[upload.repository] += len(piece)
            most -= len(piece)
        if cut is not None and cut < left:
            if self.target.forgets:
                del self.target.uploads[session]
            self._reset()

    def _blob(self, repository: str, digest: str) -> Answer | None:
        found = self.target.blobs[repository].get(digest)
        if found is None:
            return error(404, "BLOB_UNKNOWN", "no such blob")
        self._content(found, "application/octet-stream", digest)
        return None

    def _tags(self, repository: str, _: str) -> Answer:
        if not self.target.lists_tags:
            return error(404, "UNSUPPORTED", "no such route")
        tags = [name for name in self.target.manifests[repository] if ":" not in name]
        if not tags:
            return error(404, "NAME_UNKNOWN", "repository name not known to registry")
        link = {"Link": f'</v2/{repository}/tags/list?last={tags[0]}>; rel="next"'}
        return 200, {"tags": tags[: self.target.page]}, link if len(tags) > self.target.page else {}

    def _manifest(self, repository: str, reference: str) -> Answer | None:
        held = self.target.manifests[repository]
        if self.command == "PUT":
            return self._put_manifest(repository, reference)
        if self.command == "DELETE" and not self.target.deletes:
            return error(405, "UNSUPPORTED", "The operation is unsupported.")
        if self.command == "DELETE":
            return (202, None, {}) if held.pop(reference, None) else error(404, "MANIFEST_UNKNOWN", "none")
        if reference not in held:
            return error(404, "MANIFEST_UNKNOWN", "no such manifest")
        media_type, body = held[reference]
        self._content(body, media_type, Digest.of(body))
        return None

    def _put_manifest(self, repository: str, reference: str) -> Answer:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        held, digest = self.target.manifests[repository], Digest.of(body)
        document = json.loads(body)
        blobs = [*document.get("layers", []), *filter(None, [document.get("config")])]
        lacking = [each for each in blobs if each["digest"] not in self.target.blobs[repository]]
        lacking += [each for each in document.get("manifests", []) if each["digest"] not in held]
        if lacking and not reference.startswith("sha256-"):
            return error(404, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {lacking[0]['digest']}")
        refusal = self.target.refused_tags.get((repository, reference))
        if self.target.immutable is not None and reference in held and ":" not in reference:
            refusal = self.target.immutable(repository, reference)
        if refusal is not None:
            return refusal
        held[reference] = held[digest] = (self.headers["Content-Type"], body)
        headers: dict[str, str] = {"Docker-Content-Digest": digest}
        if "subject" in document and self.target.lists_referrers:
            headers["OCI-Subject"] = document["subject"]["digest"]
        return 201, None, headers

    def _content(self, body: bytes, media_type: str, digest: str) -> None:
        self._note(200)
        self.send_response(200)
        for name, value in {
            "Content-Type": media_type,
            "Content-Length": str(len(body)),
            "Docker-Content-Digest": digest,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send(self, status: int, document: dict[str, Any] | None, headers: dict[str, str]) -> None:
        self._note(status)
        body = b"" if document is None else json.dumps(document).encode()
        with suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def _note(self, status: int) -> None:
        with self.target.lock:
            self.target.seen.append((self.command, self.path, status))

    def _skip_body(self) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read(min(left, _PIECE))):
            left -= len(piece)

    def _reset(self) -> None:
        self._note(0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        raise ConnectionResetError

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what this server is for."""


@contextmanager
def push_target(**knobs: Any) -> Iterator[PushTarget]:
    """One that runs; `knobs` as for `PushTarget`."""
    target = PushTarget(**knobs)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"target": target}))
    target.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield target
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
