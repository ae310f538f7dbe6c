"""One request and its answer: a slot of the host, a client, timeouts, and exceptions made ours."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from threading import Lock
from typing import TYPE_CHECKING

import httpx

from registry_server.human_units import human_seconds
from tasks.upstream.connection.addresses import Nearness, check_address, nearness, watch_connect
from tasks.upstream.connection.clients import Clients
from tasks.upstream.connection.error_mapping import mapped
from tasks.upstream.connection.limits import HostLimits
from tasks.upstream.connection.proxies import Proxies, Proxy
from tasks.upstream.connection.via import via
from tasks.upstream.errors import UpstreamLimited

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Iterator

    from tasks.upstream.connection.tls import Contexts
    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.errors import Where
    from tasks.upstream.options import RegistryOptions

_LITTLE = 16 * 1024  # bytes: what stands in a redirect
_PATIENCE = 1.0  # seconds for them

USER_AGENT = f"mirrorflow/{metadata.version('mirrorflow')}"


class Answer:
    """A response whose body has not been read."""

    def __init__(
        self, response: httpx.Response, where: Where, options: RegistryOptions, waits: Waits
    ) -> None:
        self.response = response
        self.where = where
        self.options = options
        self.waits = waits

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def headers(self) -> httpx.Headers:
        return self.response.headers

    @property
    def url(self) -> httpx.URL:
        """The one that answered: behind redirects, not the one that was asked for."""
        return self.response.request.url

    def chunks(self) -> Generator[bytes]:
        """The body as it was sent. Raises an `UpstreamError` for what the network does, or `Stopped`."""
        raw = self.response.iter_raw()
        while True:
            self.waits.check()
            with mapped(self.where, self.options, body=True):
                chunk = next(raw, None)
            if chunk is None:
                return
            yield chunk


class Wire:
    def __init__(self, contexts: Contexts, options: RegistryOptions, waits: Waits, *, mark: str = "") -> None:
        """`mark` is what our requests are marked with (via.py)."""
        self._mark = mark
        self._contexts = contexts
        self._options = options
        self._waits = waits
        self._limits: dict[str, HostLimits] = {}
        self._clients: dict[ssl.SSLContext, Clients] = {}
        self._homes: dict[str, Nearness] = {}
        self._proxies = Proxies.read()
        self._proxy_of: dict[tuple[str, bytes], Proxy | None] = {}
        self._lock = Lock()

    @contextmanager
    def send(
        self, request: httpx.Request, home: httpx.URL, where: Where, *, bulk: bool = False
    ) -> Iterator[Answer]:
        """Send `request`; the slot and the connection are given back when the block is left.

        `home`: the registry. Another host gets a connection only if it may (addresses.py).
        """
        request.headers.setdefault("User-Agent", USER_AGENT)
        if self._mark:
            request.headers["Via"] = via(self._mark)
        # A compressed answer would have another digest and no Content-Length (RFC 9110, 14.2).
        request.headers["Accept-Encoding"] = "identity"
        request.extensions = {"timeout": self._timeouts()}
        if request.url.host != home.host:
            self._guard(request, home, where)
        limits = self.limits(request.url)
        if left := limits.closed_for():
            reason = f"{request.url.host} asked us to wait, for {human_seconds(left)} more (429, Retry-After)"
            raise UpstreamLimited(where, reason, 429, retry_after=left)
        with ExitStack() as held:
            held.enter_context(limits.slot(bulk=bulk))
            client = held.enter_context(self._clients_for(request.url).borrow())
            elsewhere = request.url.host if request.url.host != home.host else ""
            proxy = self._proxy(request.url)
            with mapped(where, self._options, elsewhere=elsewhere, proxy=proxy.url.host if proxy else ""):
                response = client.send(request, proxy)
            held.callback(_close, response)
            # httpcore reads this when the first byte of the body is asked for.
            response.request.extensions["timeout"]["read"] = self._options.read_timeout
            if request.url.host == home.host:
                self._remember(home, response)
            yield Answer(response, where, self._options, self._waits)

    def close(self) -> None:
        with self._lock:
            for clients in self._clients.values():
                clients.close()

    def _clients_for(self, url: httpx.URL) -> Clients:
        context = self._contexts.for_host(url.netloc.decode())
        with self._lock:
            if context not in self._clients:
                keep = self._options.max_idle_conns_per_host or self._options.req_concurrent
                self._clients[context] = Clients(context, keep=keep)
            return self._clients[context]

    def _guard(self, request: httpx.Request, home: httpx.URL, where: Where) -> None:
        host, near = request.url.host, self._homes.get(home.host, Nearness.PUBLIC)
        check_address(host, near, host, where)
        request.extensions["trace"] = watch_connect(host, near, where)

    def _remember(self, home: httpx.URL, response: httpx.Response) -> None:
        """How near the registry is, by the address that answered: a proxy's says nothing about it."""
        if home.host in self._homes or self._proxy(home):
            return
        with suppress(OSError):  # it may be gone already
            address = response.extensions["network_stream"].get_extra_info("server_addr")
            self._homes[home.host] = nearness(str(address[0]))

    def _proxy(self, url: httpx.URL) -> Proxy | None:
        """Decided once a host. Raises `ProxyInvalid`."""
        key = (url.scheme, url.netloc)
        if key not in self._proxy_of:
            proxy = self._proxies.proxy_for(url)
            self._proxy_of[key] = Proxy(proxy, self._proxy_context(proxy)) if proxy else None
        return self._proxy_of[key]

    def _proxy_context(self, proxy: httpx.URL) -> ssl.SSLContext | None:
        return self._contexts.for_host(proxy.netloc.decode()) if proxy.scheme == "https" else None

    def limits(self, url: httpx.URL) -> HostLimits:
        with self._lock:
            key = url.netloc.decode()
            if key not in self._limits:
                self._limits[key] = HostLimits(
                    self._waits, concurrent=self._options.req_concurrent, per_second=self._options.req_per_sec
                )
            return self._limits[key]

    def _timeouts(self) -> dict[str, float | None]:
        options = self._options
        return httpx.Timeout(
            connect=options.connect_timeout,
            read=options.response_header_timeout,
            write=options.read_timeout,
            pool=None,
        ).as_dict()


def _close(response: httpx.Response) -> None:
    # What a broken connection says when it is closed adds nothing to what was raised.
    with suppress(httpx.HTTPError, OSError):
        if _is_nearly_read(response):
            response.request.extensions["timeout"]["read"] = _PATIENCE
            for _ in response.iter_raw():
                pass
    with suppress(httpx.HTTPError, OSError):
        response.close()


def _is_nearly_read(response: httpx.Response) -> bool:
    """Whether reading on costs less than a new connection, which is what is paid for a body that is not read
    to its end: also for the empty one of an answer to HEAD."""
    if response.is_stream_consumed:
        return False
    length = response.headers.get("Content-Length", "")
    return response.request.method == "HEAD" or (length.isdecimal() and int(length) <= _LITTLE)
