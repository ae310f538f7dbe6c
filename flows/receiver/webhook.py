"""The receiver of misses: a signed POST in, an answer in JSON out (docs/on-demand.md).

Each call waits for an upstream. Callers wait in the queue of the socket while a killed receiver starts anew.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.receiver.json_server import JsonPostServer
from registry_server.http.pull.paging import LONGEST_PAGE
from registry_server.http.pull_through.via_marks import marks_in
from registry_server.http.pull_through.webhook_client import (
    SIGNATURE,
    TIMESTAMP,
    CallRefused,
    NonceCache,
    check,
)
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, parse_reference
from tasks.on_demand.answers import Miss, Place, TagPage

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from flows.receiver.json_server import Reply, Waiting
    from tasks.on_demand.answers import Answer, Question

log = logging.getLogger("mirrorflow.webhook")

MAX_BODY = 16 * 1024  # bytes
_SLOW = 10.0  # seconds for the request to arrive
# Clients that wait, of all upstreams together: `tasks.on_demand.limits.bulkhead` bounds those of one.
_AT_ONCE = 4096
_LONGEST_WAIT = 3600.0
_MARGIN = 0.5  # seconds before the caller hangs up


class BadCall(Exception):
    """`status` and a sentence; the caller is no friend, or a bug."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Receiver(JsonPostServer):
    """`answer` gets the miss and the seconds it has, in a thread. `url`: where servers call it, if known.

    `refusal` and `resolve` must not wait: they are called in the thread that takes all calls in.
    """

    def __init__(
        self,
        listener: socket.socket,
        secret: bytes,
        answer: Callable[[Miss | TagPage, float], Answer],
        *,
        resolve: Callable[[Place], Answer],
        refusal: Callable[[Miss | TagPage], Answer | None] = lambda _miss: None,
        url: str = "",
        clock: Callable[[], float] = time.time,
        seconds: float = _SLOW,
    ) -> None:
        super().__init__(listener, self._post, max_body=MAX_BODY, seconds=seconds, at_once=_AT_ONCE)
        self._secret, self._url = secret, url
        self._answer = answer
        self._resolve, self._refusal = resolve, refusal
        self._clock = clock
        self._seen = NonceCache()

    def _post(self, _target: str, headers: dict[str, str], body: bytes) -> Reply | Waiting:
        timestamp, signature = (headers.get(name.lower(), "") for name in (TIMESTAMP, SIGNATURE))
        try:
            called = self._checked(timestamp, signature, body)
        except BadCall as error:
            return error.status, {"error": str(error)}
        question = called.question
        if isinstance(question, Place):
            return 200, self._resolve(question).to_json()
        if refused := self._refusal(question):
            return 200, refused.to_json()
        return lambda: (200, self._answer(question, called.wait).to_json())

    def _checked(self, timestamp: str, signature: str, body: bytes) -> Call:
        """Raises `BadCall`."""
        now = self._clock()
        try:
            check(self._secret, timestamp, signature, body, now=now)
            called = read_call(body)
            if not self._seen.is_first_use(called.id, now=now):
                raise CallRefused("this call was made before")
            if self._url and called.receiver not in ("", self._url):
                raise CallRefused("this call was made to another receiver")
        except CallRefused as error:
            log.warning("a call was refused: %s", error)
            raise BadCall(401, str(error)) from error
        return called


@dataclass(frozen=True, slots=True)
class Call:
    """`wait` in seconds. `receiver` is the url that was called; "" from servers that do not say."""

    id: str
    question: Question
    wait: float
    receiver: str = ""


def read_call(body: bytes) -> Call:
    """Raises `BadCall`."""
    try:
        found = json.loads(body)
        if found["version"] != 1:
            raise BadCall(400, "`version` must be 1")
        wait = min(max(float(found.get("timeout", 60)), 0.0), _LONGEST_WAIT)
        given = max(wait - _MARGIN, wait / 2)
        return Call(str(found["id"]), _question(found), given, str(found.get("receiver", "")))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise BadCall(400, f"the body does not follow docs/on-demand.md: {error}") from error


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
