"""Signed calls between the server and the receiver of its misses (docs/on-demand.md): pure.

The signature covers the time and the body, and the body has an `id` that is never used twice: what was
overheard can be changed by nobody, and sent again by nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections import OrderedDict

from registry_server.oci.errors import MirrorflowError

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
