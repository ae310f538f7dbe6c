"""Signed calls of the server to the receiver of its misses, and the answers (docs/on-demand.md).

Sent by asyncio streams, without an HTTP library. The signature covers the time and the body, and the body has
an `id` that is never used twice: nobody can change what was overheard, or send it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import ssl
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LONGEST_ANSWER = 64 * 1024  # bytes
TIMESTAMP = "X-Mirrorflow-Timestamp"  # unix seconds, a decimal number
SIGNATURE = "X-Mirrorflow-Signature"  # sha256=<hex>
TOLERANCE = 60.0  # seconds that the clocks of both sides may differ
_MOST_IDS = 100_000


class CallRefused(MirrorflowError):
    """Not signed with our secret, too old, or sent before. Says nothing that would help a forger."""


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of `SIGNATURE`: HMAC-SHA256 over `<timestamp>.<body>`."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def check(secret: bytes, timestamp: str, signature: str, body: bytes, *, now: float) -> None:
    """Raises `CallRefused`. `now` in unix seconds. The id in the body is `NonceCache`'s business."""
    expected = sign(secret, timestamp, body)
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape")):
        raise CallRefused("wrong signature: both sides must have the same secret")
    try:
        difference = abs(now - float(timestamp))
    except ValueError:
        raise CallRefused("the timestamp is not a number") from None
    if not difference <= TOLERANCE:
        raise CallRefused("the timestamp is too far from this machine's clock")


class NonceCache:
    """Remembers ids for as long as their timestamps are good. Thread-safe, and bounded."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def is_first_use(self, name: str, *, now: float) -> bool:
        with self._lock:
            while self._until and (next(iter(self._until.values())) < now or len(self._until) >= _MOST_IDS):
                self._until.popitem(last=False)
            if name in self._until:
                return False
            self._until[name] = now + 2 * TOLERANCE
            return True


class ReceiverFailed(MirrorflowError):
    """The receiver of misses cannot be reached, or its answer makes no sense."""

    retryable = True


@dataclass(frozen=True, slots=True)
class OnMissOptions:
    """Whom to call. `timeout` in seconds, for the whole call.

    Without `urls`: the receivers that have a record in the store.
    """

    urls: tuple[str, ...]
    secret: bytes
    timeout: float = 60.0
    vhosts: Mapping[str, str] = field(default_factory=dict)  # host -> the registry entry that it stands for
    failures_per_minute: int = 0  # that a client may cause by asking for what is not here; 0: no limit
    mark: str = ""  # what is in the `Via` of the mirror's own requests to upstream registries

    def __repr__(self) -> str:
        return f"OnMissOptions(urls={self.urls!r}, timeout={self.timeout!r})"

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file of JSON, `{"url" or "urls", "secret", "timeout"}`. Raises OSError, `ReceiverFailed`."""
        try:
            found = json.loads(path.read_text())
            urls = found["urls"] if "urls" in found else [found["url"]]
            return cls(
                tuple(map(str, urls)),
                str(found["secret"]).encode(),
                float(found["timeout"]),
                dict(found.get("vhosts", {})),
                int(found.get("failuresPerMinute", 0)),
                str(found.get("mark", "")),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ReceiverFailed(
                f'{path} is not {{"url": …, "secret": …, "timeout": seconds}} as JSON'
            ) from error

    def to_json(self) -> str:
        document = {"urls": self.urls, "secret": self.secret.decode(), "timeout": self.timeout}
        document |= {"failuresPerMinute": self.failures_per_minute, "mark": self.mark}
        return json.dumps(document | {"vhosts": dict(self.vhosts)})


async def call(
    url: str,
    secret: bytes,
    question: dict[str, Any],
    timeout: float,  # noqa: ASYNC109 - callers have different timeouts
    *,
    connect: float,
    longest: int = LONGEST_ANSWER,
) -> dict[str, Any]:
    """Ask, and return the answer's JSON, of at most `longest` bytes. Raises `ReceiverFailed`.

    `connect`: the part of `timeout` in which the connection must be made.
    """
    try:
        async with asyncio.timeout(timeout):
            return _read_answer(await _exchange(url, _request(url, secret, question), connect, longest))
    except TimeoutError:
        raise ReceiverFailed(f"no answer from {url} within {timeout:g} s") from None
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ReceiverFailed(f"no answer from {url}: {error}") from error


async def _exchange(url: str, request: bytes, connect: float, longest: int) -> bytes:
    reader, writer = await _connected(url, connect)
    try:
        writer.write(request)
        await writer.drain()
        # `Connection: close`: the answer ends where the connection does.
        answer = bytearray()
        while piece := await reader.read(LONGEST_ANSWER):
            answer += piece
            if len(answer) > longest:
                raise ReceiverFailed(f"the answer of {url} is longer than {longest} bytes")
        return bytes(answer)
    finally:
        writer.close()


async def _connected(url: str, seconds: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError, `ReceiverFailed`."""
    parts = urlsplit(url)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    opening = asyncio.open_connection(parts.hostname, port, ssl=secure, limit=LONGEST_ANSWER)
    try:
        return await asyncio.wait_for(opening, seconds)
    except TimeoutError:
        raise ReceiverFailed(f"no connection to {url} within {seconds:g} s") from None


def _request(url: str, secret: bytes, question: dict[str, Any]) -> bytes:
    parts = urlsplit(url)
    body = json.dumps({"version": 1, "id": secrets.token_hex(16), **question}).encode()
    timestamp = f"{time.time():.3f}"
    head = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"{TIMESTAMP}: {timestamp}\r\n{SIGNATURE}: {sign(secret, timestamp, body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def _read_answer(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head[:64].split(b" ")[1:2]
    if status != [b"200"]:
        said = status[0].decode("latin-1") if status else "no HTTP status"
        raise ReceiverFailed(
            f"the fetch service refuses the call ({said}); both sides must have the same secret"
        )
    try:
        found = json.loads(body)
        if isinstance(found, dict) and isinstance(found.get("outcome"), str):
            return found
    except ValueError:
        pass
    raise ReceiverFailed("the response of the fetch service does not follow docs/on-demand.md")
