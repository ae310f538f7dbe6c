"""HTTP/1.1 (RFC 9112) straight to the host, as a transport of httpx.

httpcore spends some 300 µs of CPU on an exchange, this some 20, and a poll is little but exchanges
(benchmarks/NOTES.md, 2026-11-30). What is read here is parsed by llhttp, the parser of Node.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import OrderedDict
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Final

import httpx

from tasks.upstream.connection.http1_response import Body, ResponseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Origin = tuple[str, bytes, int]  # scheme, host, port

_PORTS: Final = {"http": 80, "https": 443}
_KEPT: Final = 4  # the registry, its token service, its blob host
_IDLE: Final = 30.0  # seconds: longer than the pauses in a poll, shorter than a firewall forgets a connection
_RECEIVED: Final = 64 * 1024  # bytes at a time
_SHORTEST: Final = 0.001  # seconds: a time-out of 0 would not wait at all
_SAFE: Final = frozenset({"GET", "HEAD"})  # what may be sent a second time (RFC 9110, 9.2.1)


def origin_of(url: httpx.URL) -> Origin:
    return url.scheme, url.raw_host, url.port or _PORTS[url.scheme]


class Http1Transport(httpx.BaseTransport):
    """Keeps one idle connection to each of a few origins. One exchange at a time.

    A request's extension `timeout` is that of httpx, where `read` is for the whole head of the response, and
    then for each piece of its body. `connected` is called with the address of the connection before
    anything is sent, and may raise. A response's extension `network_stream` answers
    `get_extra_info("socket")` and `("server_addr")` as httpcore's does; `consumed` takes the number of bytes
    of the body that somebody read from the socket.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["http/1.1"])
        self._context = context
        self._idle: OrderedDict[Origin, Connection] = OrderedDict()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises `httpx.TransportError`, or what `connected` raises."""
        origin = origin_of(request.url)
        if (kept := self.take(origin)) is not None:
            with suppress(_ClosedWhileIdle):
                return self._again(kept, request, origin)
        return self._exchange(self._connect(request, origin), request, origin)

    def _again(self, kept: Connection, request: httpx.Request, origin: Origin) -> httpx.Response:
        """Whoever asked before may have been allowed to reach an address that this request may not."""
        connected = request.extensions.get("connected")
        try:
            if connected is not None:
                connected(kept.address)
        except BaseException:
            self.keep(origin, kept)
            raise
        return self._exchange(kept, request, origin)

    def _connect(self, request: httpx.Request, origin: Origin) -> Connection:
        scheme, host, port = origin
        timeout = request.extensions["timeout"]["connect"]
        context = self._context if scheme == "https" else None
        return Connection.open(host.decode(), port, timeout, context, request.extensions.get("connected"))

    def _exchange(self, connection: Connection, request: httpx.Request, origin: Origin) -> httpx.Response:
        try:
            parser = connection.ask(request)
        except BaseException:
            connection.close()
            raise
        body = Body(
            parser,
            lambda: connection.receive(request.extensions["timeout"]["read"], parser.left),
            lambda reusable: self.keep(origin, connection) if reusable else connection.close(),
        )
        extensions = {"network_stream": connection, "consumed": body.consumed, "http_version": b"HTTP/1.1"}
        return httpx.Response(parser.status, headers=parser.headers, stream=body, extensions=extensions)

    def keeps(self, origin: Origin) -> bool:
        return origin in self._idle

    def take(self, origin: Origin) -> Connection | None:
        """The connection that it keeps, if that can still be used: `keep` or close it."""
        kept = self._idle.pop(origin, None)
        if kept is None or kept.is_fresh():
            return kept
        kept.close()
        return None

    def keep(self, origin: Origin, connection: Connection) -> None:
        connection.rest()
        self._idle[origin] = connection
        while len(self._idle) > _KEPT:
            self._idle.popitem(last=False)[1].close()

    def close(self) -> None:
        while self._idle:
            self._idle.popitem()[1].close()


class _ClosedWhileIdle(httpx.RemoteProtocolError):
    """A kept connection ended before any byte of an answer: the request can go out on a new one
    (RFC 9112, 9.3.1)."""


class Connection:
    """One connection; it answers one request after the other."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.sock = sock
        self.address = address
        self._answered = False
        self._used = time.monotonic()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    @classmethod
    def open(
        cls,
        host: str,
        port: int,
        timeout: float | None,
        context: ssl.SSLContext | None,
        connected: Callable[[str], None] | None,
    ) -> Connection:
        """`context` is None for no TLS.

        Raises `httpx.ConnectError`, `httpx.ConnectTimeout`, or what `connected` raises.
        """
        with _mapped(httpx.ConnectTimeout, httpx.ConnectError):
            sock = socket.create_connection((host, port), timeout)
        try:
            with _mapped(httpx.ConnectTimeout, httpx.ConnectError):
                address = str(sock.getpeername()[0])
            if connected is not None:
                connected(address)
            with _mapped(httpx.ConnectTimeout, httpx.ConnectError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return cls(context.wrap_socket(sock, server_hostname=host) if context else sock, address)
        except BaseException:
            sock.close()
            raise

    def get_extra_info(self, info: str) -> object:
        """As `httpcore.NetworkStream` has it."""
        return self.sock.getpeername() if info == "server_addr" else self.sock

    def is_fresh(self) -> bool:
        """Whether it was not idle for long, and nothing came: that is its end, or answers no question."""
        return time.monotonic() - self._used < _IDLE and not self.has_bytes()

    def has_bytes(self) -> bool:
        # Of a TLS record that was read in part the socket has nothing any more.
        kept = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0
        return kept or bool(self._poll.poll(0))

    def rest(self) -> None:
        self._used = time.monotonic()

    def ask(self, request: httpx.Request) -> ResponseParser:
        """Send `request`, and read the head of the response. Raises `httpx.TransportError`."""
        parser = ResponseParser(request.method)
        try:
            # Who refuses a body may answer before all of it was sent (RFC 9112, 9.5), and TLS then says why.
            with suppress(httpx.WriteError):
                self._send(request)
            self._read_head(request, parser)
        except (httpx.ReadError, httpx.RemoteProtocolError) as error:
            if self._answered and not parser.seen and request.method in _SAFE:
                raise _ClosedWhileIdle(str(error)) from error
            raise
        self._answered = True
        return parser

    def _send(self, request: httpx.Request) -> None:
        pieces = iter(_framed(request))
        head = spelled(request) + next(pieces, b"")
        for piece in chain((head,), pieces):  # what the source of the body raises is not the network's
            with _mapped(httpx.WriteTimeout, httpx.WriteError):
                self.sock.settimeout(request.extensions["timeout"]["write"])
                self.sock.sendall(piece)

    def _read_head(self, request: httpx.Request, parser: ResponseParser) -> None:
        """All of it within the time-out: who sends a byte now and then would never be given up."""
        deadline = time.monotonic() + request.extensions["timeout"]["read"]
        while not parser.has_head:
            parser.feed(self.receive(max(deadline - time.monotonic(), _SHORTEST)))

    def receive(self, timeout: float | None, most: int | None = None) -> bytes:
        """Some bytes, b"" at the end. Raises `httpx.ReadTimeout`, `ReadError`."""
        with _mapped(httpx.ReadTimeout, httpx.ReadError):
            self.sock.settimeout(timeout)
            return self.sock.recv(min(most or _RECEIVED, _RECEIVED))

    def close(self) -> None:
        self.sock.close()


@contextmanager
def _mapped(slow: type[httpx.TransportError], broken: type[httpx.TransportError]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise slow(str(error)) from error
    except (OSError, UnicodeError) as error:  # the latter: a host that is no name (`a..b`)
        raise broken(str(error)) from error


def spelled(request: httpx.Request) -> bytes:
    """All but the body (RFC 9112, 2.1). Raises `httpx.LocalProtocolError` for a line break in a header."""
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%s: %s" % header for header in request.headers.raw]
    head = b"\r\n".join([*lines, b"", b""])
    if head.count(b"\n") != len(lines) + 1:
        raise httpx.LocalProtocolError("a header has a line break in it")
    return head


def _framed(request: httpx.Request) -> Iterator[bytes]:
    """The body as it is sent: in chunks where its length is not known (RFC 9112, 7.1)."""
    assert isinstance(request.stream, httpx.SyncByteStream)
    if "Transfer-Encoding" not in request.headers:
        yield from request.stream
        return
    for piece in filter(None, request.stream):
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
