"""One request and its answer: a slot of the host, a connection, timeouts, and exceptions made ours."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import metadata
from threading import Lock
from typing import TYPE_CHECKING, Self

import httpx

from registry_server.human_units import human_seconds
from tasks.upstream.connection.addresses import Nearness, check_address, nearness
from tasks.upstream.connection.error_mapping import mapped
from tasks.upstream.connection.hosts import HostLimits, Transports
from tasks.upstream.connection.http1 import spelled
from tasks.upstream.connection.minimum_rate import MinimumRate
from tasks.upstream.connection.proxies import Proxies, Proxy
from tasks.upstream.connection.tls import trusting_nobody
from tasks.upstream.errors import UpstreamLimited

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Iterator

    from tasks.upstream.connection.tls import Contexts
    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.errors import Where
    from tasks.upstream.options import RegistryOptions

_LITTLE = 16 * 1024  # bytes: what stands in a redirect
_LITTLE_SECONDS = 1.0  # for reading so much

USER_AGENT = f"mirrorflow/{metadata.version('mirrorflow')}"

_behind: ContextVar[tuple[str, ...]] = ContextVar("behind", default=())


@contextmanager
def on_behalf_of(mirrors: tuple[str, ...]) -> Iterator[None]:
    """Requests from within name these mirrors in `Via` too (RFC 9110, 7.6.3): theirs was the question.

    Mirrors that mirror one another would otherwise wait for each other. Each finds in the requests that it
    gets whether it asked for them itself, however many stand in between, and then answers with what it has.
    """
    token = _behind.set(mirrors)
    try:
        yield
    finally:
        _behind.reset(token)


class Answer:
    """A response whose body has not been read. `limits` are those of the host that it came from.

    `url` is the one that answered: behind redirects, not the one that was asked for. It holds a slot and a
    connection until it is closed.
    """

    def __init__(
        self,
        response: httpx.Response,
        where: Where,
        options: RegistryOptions,
        waits: Waits,
        limits: HostLimits,
        *,
        loan: Loan | None = None,
    ) -> None:
        """`loan` is None for an answer that is whole already."""
        self.response = response
        self.status = response.status_code
        self.headers = response.headers
        self.url = response.request.url
        self.where = where
        self.options = options
        self.waits = waits
        self.limits = limits
        self._loan = loan

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        loan, self._loan = self._loan, None
        if loan is not None:
            try:
                _close(self.response)
            finally:
                loan.end()

    @property
    def redirects(self) -> bool:
        return 300 <= self.status < 400 and self.response.has_redirect_location

    def chunks(self) -> Generator[bytes]:
        """The body as it was sent. Raises an `UpstreamError` for what the network does, or `Stopped`."""
        raw, rate = self.response.iter_raw(), MinimumRate(self.where, self.options.read_timeout)
        clock = self.waits.clock
        while True:
            self.waits.check()
            rate.check()
            began = clock()
            with mapped(self.where, self.options, body=True):
                chunk = next(raw, None)
            if chunk is None:
                return
            rate.waited(clock() - began, len(chunk))
            yield chunk


@dataclass(frozen=True, slots=True)
class Host:
    """What requests to one host need."""

    limits: HostLimits
    transports: Transports
    proxy: str  # the host of the proxy on the way to it, "" for none


class Begun:
    """What came of a HEAD that somebody sent before: a response that is whole, or an error of httpx."""

    def __init__(self, outcome: httpx.Response | httpx.TransportError, limits: HostLimits) -> None:
        self._outcome: httpx.Response | httpx.TransportError | None = outcome
        self.limits = limits

    @property
    def is_taken(self) -> bool:
        return self._outcome is None

    def take(self) -> httpx.Response:
        """Once. Raises the error."""
        outcome, self._outcome = self._outcome, None
        assert outcome is not None
        if isinstance(outcome, httpx.TransportError):
            raise outcome
        return outcome


class Loan:
    """A slot of a host and a connection to it."""

    def __init__(self, host: Host, *, bulk: bool) -> None:
        """Waits for the slot. Raises `Stopped`."""
        self.host = host
        self._bulk = bulk
        host.limits.acquire(bulk=bulk)
        self.transport = host.transports.take()

    def end(self) -> None:
        self.host.transports.give_back(self.transport)
        self.host.limits.release(bulk=self._bulk)


class Wire:
    def __init__(self, contexts: Contexts, options: RegistryOptions, waits: Waits, *, mark: str = "") -> None:
        """`mark` is what this mirror is called in the `Via` of its requests; "" for one that has no name."""
        self._mark = mark
        self._contexts = contexts
        self._options = options
        self._waits = waits
        self._hosts: dict[tuple[str, bytes], Host] = {}
        self._limits: dict[bytes, HostLimits] = {}
        self._transports: dict[tuple[ssl.SSLContext, httpx.URL | None], Transports] = {}
        self._homes: dict[str, Nearness] = {}
        self._proxies = Proxies.read()
        self._timeouts = httpx.Timeout(
            connect=options.connect_timeout,
            read=options.response_header_timeout,
            write=options.read_timeout,
            pool=None,
        ).as_dict()
        self._lock = Lock()

    def send(self, request: httpx.Request, home: httpx.URL, where: Where, *, bulk: bool = False) -> Answer:
        """Send `request`; the answer has to be closed. Raises an `UpstreamError` or `Stopped`.

        `home`: the registry. Another host gets a connection only if it may (addresses.py).
        """
        is_home = (request.url.scheme, request.url.netloc) == (home.scheme, home.netloc)
        elsewhere = "" if is_home else request.url.netloc.decode()
        self._complete(request)
        if request.url.host != home.host:
            self._guard(request, home, where)
        host = self.host(request.url)
        if left := host.limits.closed_for():
            reason = f"{request.url.host} asked us to wait, for {human_seconds(left)} more (429, Retry-After)"
            raise UpstreamLimited(where, reason, 429, retry_after=left)
        loan = Loan(host, bulk=bulk)
        try:
            with mapped(where, self._options, elsewhere=elsewhere, proxy=host.proxy):
                response = loan.transport.handle_request(request)
        except BaseException:
            loan.end()
            raise
        response.request = request
        # From here on it is about the body.
        request.extensions["timeout"]["read"] = self._options.read_timeout
        # A proxy's address says nothing about the registry.
        if not (elsewhere or host.proxy or home.host in self._homes):
            self._remember(home, response)
        return Answer(response, where, self._options, self._waits, host.limits, loan=loan)

    def resume(self, begun: Begun, request: httpx.Request, where: Where) -> Answer:
        """What `send` gives or raises, where a HEAD was sent to the registry already."""
        self._complete(request)
        with mapped(where, self._options):
            response = begun.take()
        response.request = request
        return Answer(response, where, self._options, self._waits, begun.limits)

    def spelled(self, request: httpx.Request) -> bytes:
        """What `send` would send: the whole request, if it has no body."""
        self._complete(request)
        return spelled(request)

    def close(self) -> None:
        with self._lock:
            for transports in self._transports.values():
                transports.close()

    def _complete(self, request: httpx.Request) -> None:
        request.headers.setdefault("User-Agent", USER_AGENT)
        if self._mark:
            request.headers["Via"] = ", ".join(f"1.1 {each}" for each in (*_behind.get(), self._mark))
        # A compressed answer would have another digest and no Content-Length (RFC 9110, 14.2).
        request.headers["Accept-Encoding"] = "identity"
        request.extensions = {"timeout": dict(self._timeouts)}

    def _guard(self, request: httpx.Request, home: httpx.URL, where: Where) -> None:
        host, near = request.url.host, self._homes.get(home.host, Nearness.PUBLIC)
        check_address(host, near, host, where)
        # The address that is really connected to is looked at before anything is sent: a name that resolves
        # differently each time gains nothing. A proxy resolves for itself.
        request.extensions["connected"] = lambda address: check_address(address, near, host, where)

    def _remember(self, home: httpx.URL, response: httpx.Response) -> None:
        """How near the registry is, by the address that answered."""
        with suppress(OSError):  # it may be gone already
            address = response.extensions["network_stream"].get_extra_info("server_addr")
            self._homes[home.host] = nearness(str(address[0]))

    def host(self, url: httpx.URL) -> Host:
        """Raises `ProxyInvalid`, `CertificatesInvalid`."""
        with self._lock:
            found = self._hosts.get((url.scheme, url.netloc))
            if found is None:
                found = self._hosts[url.scheme, url.netloc] = self._new_host(url)
            return found

    def _new_host(self, url: httpx.URL) -> Host:
        proxy = self._proxy(url)
        context = self._contexts.for_host(url.netloc.decode()) if url.scheme == "https" else trusting_nobody()
        options, key = self._options, (context, proxy.url if proxy else None)
        if key not in self._transports:
            keep = options.max_idle_conns_per_host or options.req_concurrent
            self._transports[key] = Transports(context, proxy, keep=keep)
        if url.netloc not in self._limits:
            self._limits[url.netloc] = HostLimits(
                self._waits, concurrent=options.req_concurrent, per_second=options.req_per_sec
            )
        return Host(self._limits[url.netloc], self._transports[key], proxy.url.host if proxy else "")

    def _proxy(self, url: httpx.URL) -> Proxy | None:
        proxy = self._proxies.proxy_for(url)
        if proxy is None:
            return None
        context = self._contexts.for_host(proxy.netloc.decode()) if proxy.scheme == "https" else None
        return Proxy(proxy, context)


def _close(response: httpx.Response) -> None:
    # What a broken connection says when it is closed adds nothing to what was raised.
    with suppress(httpx.HTTPError, OSError):
        if _is_nearly_read(response):
            response.request.extensions["timeout"]["read"] = _LITTLE_SECONDS
            end = time.monotonic() + _LITTLE_SECONDS
            for _ in response.iter_raw():
                if time.monotonic() > end:  # it sends a byte now and then
                    break
    with suppress(httpx.HTTPError, OSError):
        response.close()


def _is_nearly_read(response: httpx.Response) -> bool:
    """Whether reading on costs less than a new connection, which is what is paid for a body that is not read
    to its end: also for the empty one of an answer to HEAD."""
    if response.is_stream_consumed:
        return False
    length = response.headers.get("Content-Length", "")
    return response.request.method == "HEAD" or (length.isdecimal() and int(length) <= _LITTLE)
