"""One line of JSON a request, for people with `jq` and for tests that count."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

    from starlette.types import Message, Scope, Send

    OnRequest = Callable[["RequestRecord"], None]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request that was answered, or broke off (`complete` is false)."""

    time: str  # when it arrived, UTC, ISO 8601
    client: str
    method: str
    kind: str  # base, catalog, tags, manifest, blob, referrers, upload; "other" if it names no endpoint
    target: str  # path and query as they were sent; never holds credentials in this protocol
    range: str | None
    status: int
    bytes: int  # of the body
    seconds: float
    complete: bool
    agent: str | None


class Recorder:
    """Stands between the application and the server's `send`, and reports the request once.

    It does so before the last message is passed on: who has an answer can read about it in the log.
    """

    def __init__(self, scope: Scope, send: Send, kind: str, report: OnRequest) -> None:
        self._scope, self._send, self._kind, self._report = scope, send, kind, report
        self._arrived, self._began = datetime.now(UTC), time.perf_counter()
        self._status, self._bytes, self._reported = 0, 0, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
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
        headers = dict(self._scope["headers"])
        return RequestRecord(
            time=self._arrived.isoformat(timespec="milliseconds"),
            client=(self._scope.get("client") or ("",))[0],
            method=self._scope["method"],
            kind=self._kind,
            target=_target(self._scope),
            range=_text(headers.get(b"range")),
            status=self._status,
            bytes=self._bytes,
            seconds=round(time.perf_counter() - self._began, 6),
            complete=complete,
            agent=_text(headers.get(b"user-agent")),
        )


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
        fields = {name: getattr(record, name) for name in RequestRecord.__slots__}
        os.write(self._fd, json.dumps(fields).encode() + b"\n")


def _target(scope: Scope) -> str:
    query = scope["query_string"]
    return str((scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1"))


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None
