"""httpx clients, each used by one thread at a time.

A client that many threads share costs twice the CPU (its pool is searched under a lock), so each exchange
borrows one. Borrowing, unlike `threading.local`, keeps as many clients as there are exchanges at a time,
however many threads come and go.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

# Keep-alive for the registry, its token service and its blob host; longer than the pauses in a poll.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=4, keepalive_expiry=30)


def proxied(url: httpx.URL) -> bool:
    """Whether the environment (HTTPS_PROXY, NO_PROXY …) puts a proxy between us and `url`."""
    proxies = getproxies()
    return (url.scheme in proxies or "all" in proxies) and not proxy_bypass(url.netloc.decode())


class Client:
    """Sends requests as they are: no redirects, no cookies, nothing added.

    That is what a transport of httpx does, at four fifths of the CPU of an `httpx.Client`; only that knows
    the proxies of the environment, though.
    """

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._verify = verify
        self._transport = httpx.HTTPTransport(verify=verify, limits=_LIMITS)
        self._through_proxies: httpx.Client | None = None

    def send(self, request: httpx.Request, *, proxied: bool) -> httpx.Response:
        """The response, its body unread. Raises what httpx raises."""
        if proxied:
            if self._through_proxies is None:
                self._through_proxies = httpx.Client(verify=self._verify, limits=_LIMITS)
            return self._through_proxies.send(request, stream=True, auth=None, follow_redirects=False)
        response = self._transport.handle_request(request)
        response.request = request
        return response

    def close(self) -> None:
        self._transport.close()
        if self._through_proxies is not None:
            self._through_proxies.close()


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
