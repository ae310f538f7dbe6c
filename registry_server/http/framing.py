"""Requests that two parsers could read differently (RFC 9112, 6.1 and 3.2): refused, whatever they ask for.

Most of it is granian's: Content-Lengths that differ or are no numbers, broken chunks, and codings that do not
end in `chunked` get 400 and never arrive here. Of Transfer-Encoding with Content-Length it hands on the first
only, answers once, and closes the connection, as RFC 9112 demands: nothing behind it is ever read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.http.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLOSE = {"Connection": "close"}


def check_framing(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises `Refused`."""
    hosts = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings += 1
            if value.strip().lower() != b"chunked":
                raise Refused(400, "UNSUPPORTED", "bodies are sent as they are or chunked, not coded", _CLOSE)
    if hosts > 1 or codings > 1:
        raise Refused(400, "UNSUPPORTED", "a request has one Host, and at most one Transfer-Encoding", _CLOSE)
