"""One line of JSON a request, for people with `jq` and for tests that count."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

    from starlette.types import Message, Scope, Send

    OnRequest = Callable[["RequestRecord"], None]


ROUTE = "mirrorflow.route"  # in the ASGI scope: what the request turned out to be about
USER = "mirrorflow.user"  # and who sent it
MISSED = "mirrorflow.missed"  # set where it was not here, and somebody was asked to fetch it

# What the specifications of this protocol name, none of it secret. Whatever else stands in a query may be.
_SHOWN = {
    b"account", b"artifactType", b"client_id", b"digest", b"digest-algorithm", b"from", b"last", b"mount",
    b"n", b"ns", b"offline_token", b"scope", b"service", b"tag",
}  # fmt: skip
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestRecord(NamedTuple):  # rather than a frozen dataclass, which takes four times as long to make
    """A request that was answered, or broke off (`complete` is false)."""

    id: str  # the client has it too, as X-Request-Id; a proxy in front may choose it
    arrived: float  # seconds since 1970; the log has it as `time`, UTC, ISO 8601
    client: str
    user: str | None  # who signed in; "" for nobody, None where nobody can
    method: str
    kind: str  # base, catalog, tags, manifest, blob, ...; "other" if it names no endpoint
    repository: str | None
    digest: str | None  # of the content that was served or taken, else the one asked for
    target: str  # path and query as they were sent, without values that may be secret
    range: str | None
    status: int
    bytes: int  # of the body
    seconds: float
    complete: bool
    missed: bool  # it was not here when it was asked for, so it was fetched, or should have been
    agent: str | None


class Recorder:
    """Stands between the application and the server's `send`, and reports the request once.

    It does so before the last message is passed on: who has an answer can read about it in the log.
    """

    def __init__(self, scope: Scope, send: Send, report: OnRequest) -> None:
        self._scope, self._send, self._report = scope, send, report
        self._arrived, self._began = time.time(), time.perf_counter()
        self._status, self._bytes, self._reported = 0, 0, False
        self._digest: bytes | None = None
        self._headers = dict(scope["headers"])
        given = self._headers.get(b"x-request-id", b"")
        self._id = given if _ID.fullmatch(given) else os.urandom(8).hex().encode()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"].append((b"x-request-id", self._id))
            self._digest = dict(message["headers"]).get(b"docker-content-digest")
        else:
            self._bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                self.finish(complete=True)
        await self._send(message)

    def finish(self, *, complete: bool = False) -> None:
        """Report what there is; does nothing after the first time."""
        if not self._reported:
            self._reported = True
            self._report(self._record(complete=complete))

    def _record(self, *, complete: bool) -> RequestRecord:
        route = self._scope.get(ROUTE)
        asked = getattr(route, "digest", None) or getattr(route, "reference", None)
        digest = _text(self._digest) or (asked if isinstance(asked, Digest) else None)
        return RequestRecord(
            id=self._id.decode(),
            arrived=self._arrived,
            client=(self._scope.get("client") or ("",))[0],
            user=self._scope.get(USER),
            method=self._scope["method"],
            kind=getattr(route, "kind", "other"),
            repository=getattr(route, "repository", None),
            digest=digest,
            target=_target(self._scope),
            range=_text(self._headers.get(b"range")),
            status=self._status,
            bytes=self._bytes,
            seconds=round(time.perf_counter() - self._began, 6),
            complete=complete,
            missed=MISSED in self._scope,
            agent=_text(self._headers.get(b"user-agent")),
        )


def to_all(*reports: OnRequest) -> OnRequest:
    """Reports each request to each of them."""

    def report(record: RequestRecord) -> None:
        for one in reports:
            one(record)

    return report


class AccessLog:
    """Appends to a file; several processes may share it, because a line is one write."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def open(cls, path: Path) -> Self:
        """`-` is standard output. Raises `OSError`."""
        if str(path) == "-":
            return cls(1)
        return cls(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def __call__(self, record: RequestRecord) -> None:
        fields = record._asdict()
        arrived = datetime.fromtimestamp(fields.pop("arrived"), UTC)
        fields = {"time": arrived.isoformat(timespec="milliseconds")} | fields
        os.write(self._fd, json.dumps(fields).encode() + b"\n")


def _target(scope: Scope) -> str:
    path: bytes = scope["raw_path"]
    if query := scope["query_string"]:
        path += b"?" + b"&".join(map(_without_secret, query.split(b"&")))
    return path.decode("latin-1")


def _without_secret(parameter: bytes) -> bytes:
    name, equals, _ = parameter.partition(b"=")
    return parameter if not equals or name in _SHOWN else name + b"=-"


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None
