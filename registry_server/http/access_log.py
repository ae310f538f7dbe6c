"""One line of JSON a request, for people with `jq` and for tests that count."""

from __future__ import annotations

import json
import os
import random
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
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
_REQUEST_ID = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestRecord:
    """A request that was answered, or broke off (`complete` is false)."""

    __slots__ = ("_began", "_headers", "arrived", "bytes", "complete", "id", "scope", "seconds", "status")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.id = _request_id(scope)  # the client has it too, as X-Request-Id
        self.arrived = time.time()  # seconds since 1970
        self._began = time.perf_counter()
        self.seconds = 0.0
        self.status = 0
        self.bytes = 0  # of the body
        self.complete = False
        self._headers: Sequence[tuple[bytes, bytes]] = ()

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.status, self._headers = status, headers

    def end(self, *, complete: bool) -> None:
        self.seconds = round(time.perf_counter() - self._began, 6)
        self.complete = complete

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    @property
    def kind(self) -> str:
        """base, catalog, tags, manifest, blob, ...; "other" if it names no endpoint."""
        return getattr(self.scope.get(ROUTE), "kind", "other")

    @property
    def route(self) -> object:
        """What it turned out to be about; None where that is not known."""
        return self.scope.get(ROUTE)

    @property
    def asked(self) -> dict[str, str]:
        """The headers of the request, by their names in lower case."""
        return _texts(self.scope["headers"])

    @property
    def answered(self) -> dict[str, str]:
        """Those of the response."""
        return _texts(self._headers)

    @property
    def missed(self) -> bool:
        """It was not here when it was asked for, so it was fetched, or should have been."""
        return MISSED in self.scope

    def line(self) -> dict[str, Any]:
        """What the log says of it: made of the request only where there is a log."""
        scope, asked = self.scope, dict(self.scope["headers"])
        arrived = datetime.fromtimestamp(self.arrived, UTC)
        return {
            "time": arrived.isoformat(timespec="milliseconds"),
            "id": self.id.decode(),
            "client": (scope.get("client") or ("",))[0],
            "user": scope.get(USER),  # "" for nobody, None where nobody can sign in
            "method": self.method,
            "kind": self.kind,
            "repository": getattr(scope.get(ROUTE), "repository", None),
            "digest": self._digest(),
            "target": _target(scope),
            "range": _text(asked.get(b"range")),
            "status": self.status,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "complete": self.complete,
            "missed": self.missed,
            "agent": _text(asked.get(b"user-agent")),
        }

    def _digest(self) -> str | None:
        """Of the content that was served or taken, else the one asked for."""
        route = self.scope.get(ROUTE)
        asked = getattr(route, "digest", None) or getattr(route, "reference", None)
        answered = _text(dict(self._headers).get(b"docker-content-digest"))
        return answered or (asked if isinstance(asked, Digest) else None)


class Recorder:
    """Stands between the application and the server's `send`, and reports the request once.

    It does so before the last message is passed on: who has an answer can read about it in the log.
    """

    def __init__(self, scope: Scope, send: Send, report: OnRequest) -> None:
        self._send, self._report = send, report
        self._record = RequestRecord(scope)
        self._reported = False

    async def send(self, message: Message) -> None:
        record = self._record
        if message["type"] == "http.response.start":
            message["headers"].append((_REQUEST_ID, record.id))
            record.begin(message["status"], message["headers"])
        else:
            record.bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                self.finish(complete=True)
        await self._send(message)

    def finish(self, *, complete: bool = False) -> None:
        """Report what there is; does nothing after the first time."""
        if not self._reported:
            self._reported = True
            self._record.end(complete=complete)
            self._report(self._record)


def _request_id(scope: Scope) -> bytes:
    """As a proxy in front has chosen it, or a new one."""
    for name, value in scope["headers"]:
        if name == _REQUEST_ID and _ID.fullmatch(value):
            given: bytes = value
            return given
    return b"%016x" % random.getrandbits(64)


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
        os.write(self._fd, json.dumps(record.line()).encode() + b"\n")


def _target(scope: Scope) -> str:
    path: bytes = scope["raw_path"]
    if query := scope["query_string"]:
        path += b"?" + b"&".join(map(_without_secret, query.split(b"&")))
    return path.decode("latin-1")


def _without_secret(parameter: bytes) -> bytes:
    name, equals, _ = parameter.partition(b"=")
    return parameter if not equals or name in _SHOWN else name + b"=-"


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None
