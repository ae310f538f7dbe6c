"""httpx clients, each used by one thread at a time.

A client that many threads share costs twice the CPU (its pool is searched under a lock), so each exchange
borrows one. Borrowing, unlike `threading.local`, keeps as many clients as there are exchanges at a time,
however many threads come and go.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from tasks.upstream.connection.proxies import Proxy

# Keep-alive for the registry, its token service and its blob host; longer than the pauses in a poll.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=4, keepalive_expiry=30)


class Client:
    """Sends requests as they are: no redirects, no cookies, nothing added.

    That is what a transport of httpx does, at four fifths of the CPU of an `httpx.Client`. httpx must not
    read the environment: it refuses `NO_PROXY=[::1]` and ignores networks (proxies.py).
    """

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._verify = verify
        self._transports: dict[httpx.URL | None, httpx.HTTPTransport] = {}

    def send(self, request: httpx.Request, proxy: Proxy | None = None) -> httpx.Response:
        """The response, its body unread. Raises what httpx raises."""
        response = self._transport(proxy).handle_request(request)
        response.request = request
        return response

    def _transport(self, proxy: Proxy | None) -> httpx.HTTPTransport:
        url = proxy.url if proxy else None
        if url not in self._transports:
            through = httpx.Proxy(proxy.url, ssl_context=proxy.context) if proxy else None
            self._transports[url] = httpx.HTTPTransport(
                verify=self._verify, limits=_LIMITS, proxy=through, trust_env=False
            )
        return self._transports[url]

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()


class Clients:
    def __init__(self, verify: ssl.SSLContext, *, keep: int) -> None:
        """`keep`: how many idle clients, and so idle connections to a host, are kept."""
        self._verify = verify
        self._keep = keep
        self._idle: deque[Client] = deque()
        self._closed = False

    @contextmanager
    def borrow(self) -> Iterator[Client]:
        client = self._take()
        try:
            yield client
        finally:
            if self._closed or len(self._idle) >= self._keep:
                client.close()
            else:
                self._idle.append(client)

    def _take(self) -> Client:
        try:
            return self._idle.pop()  # the one used last: its connections are the freshest
        except IndexError:
            return Client(self._verify)

    def close(self) -> None:
        """Close all idle clients; those on loan close when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
