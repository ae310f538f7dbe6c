"""A kept connection that carries HEADs: one thread sends on several of them, and waits for none.

Eight threads that each wait for an answer hand the GIL to each other at every one. That was a third of what a
poll cost (benchmarks/NOTES.md, 2026-11-30).
"""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Final

import httpx

from tasks.upstream.connection.http1 import origin_of
from tasks.upstream.connection.http1_response import Body, ResponseParser
from tasks.upstream.connection.wire import Begun

if TYPE_CHECKING:
    from tasks.upstream.connection.http1 import Connection, Http1Transport, Origin
    from tasks.upstream.connection.wire import Host

_RECEIVED: Final = 8 * 1024  # bytes at a time: the head of a response
_NOT_YET: Final = (BlockingIOError, ssl.SSLWantReadError)


class ConnectionLost(Exception):
    """A kept connection ended before any byte of an answer: the request can be sent again."""


class HeadConnection:
    """A kept connection and a slot of its host. It carries one HEAD at a time; `sock` is never waited for."""

    def __init__(self, host: Host, transport: Http1Transport, connection: Connection, origin: Origin) -> None:
        self._host = host
        self._transport = transport
        self._connection = connection
        self._origin = origin
        self._parser = ResponseParser("HEAD")
        self.sock = connection.sock
        self.sock.setblocking(False)  # whoever has it next sets a time-out of its own
        self.deadline = 0.0

    @classmethod
    def open(cls, host: Host, url: httpx.URL) -> HeadConnection | None:
        """None where there is no slot, or no connection is kept, now."""
        if not host.limits.try_acquire():
            return None
        origin = origin_of(url)
        try:
            found = host.transports.take_kept(origin)
        except BaseException:
            host.limits.release()
            raise
        if found is None:
            host.limits.release()
            return None
        return cls(host, *found, origin)

    def send(self, head: bytes, seconds: float) -> None:
        """`head`: the whole request. Its answer has `seconds`. Raises `ConnectionLost`."""
        self._parser = ResponseParser("HEAD")
        self.deadline = time.monotonic() + seconds
        try:
            sent = self.sock.send(head)
        except OSError as error:
            raise ConnectionLost from error
        if sent != len(head):
            raise ConnectionLost  # so much does not fit where nothing else is on its way

    def receive(self) -> ResponseParser | None:
        """The answer, once it is whole. Raises `ConnectionLost`, `httpx.TransportError`."""
        parser = self._parser
        try:
            while not parser.has_head:
                parser.feed(self.sock.recv(_RECEIVED))
        except _NOT_YET:
            return None
        except (OSError, httpx.RemoteProtocolError) as error:
            if not parser.seen:
                raise ConnectionLost from error
            raise error if isinstance(error, httpx.TransportError) else httpx.ReadError(str(error)) from error
        return parser

    def is_quiet(self) -> bool:
        """Of a TLS record that was read in part the socket has nothing any more."""
        return not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending())

    def leave(self) -> None:
        """Give connection and slot back."""
        self._transport.keep(self._origin, self._connection)
        self._end()

    def drop(self) -> None:
        """Close the connection, and give the slot back."""
        self._connection.close()
        self._end()

    def begun(self, outcome: ResponseParser | httpx.TransportError) -> Begun:
        """What came, for somebody else to go on with. The connection is given back."""
        limits = self._host.limits
        if isinstance(outcome, httpx.TransportError):
            self.drop()
            return Begun(outcome, limits)
        body = Body(outcome, lambda: b"", lambda reusable: self.leave() if reusable else self.drop())
        return Begun(httpx.Response(outcome.status, headers=outcome.headers, stream=body), limits)

    def _end(self) -> None:
        self._host.transports.give_back(self._transport)
        self._host.limits.release()
