"""How much of one host we use at a time: slots, request rate, pauses that it asks for, and connections."""

from __future__ import annotations

from collections import deque
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

import httpx

from tasks.upstream.connection.http1 import Http1Transport

if TYPE_CHECKING:
    import ssl

    from tasks.upstream.connection.http1 import Connection, Origin
    from tasks.upstream.connection.proxies import Proxy
    from tasks.upstream.connection.waits import Waits

# After a 429 everybody at once is what brought the 429: requests go out one by one, with this many
# seconds between them, doubled by each further 429 and shrunk by each good answer.
MAX_WAIT = 60.0  # seconds of Retry-After that are waited; for longer ones the profile has `retryDelay`
_LONGEST_CLOSED = 3600.0  # seconds that a host is believed that it is not to be asked
_PAUSE = 1.0  # seconds that a 429 without a hint stops everybody
_FIRST_GAP, _LONGEST_GAP, _SHRINK, _NO_GAP = 0.05, 5.0, 0.8, 0.005
# Keep-alive for the registry, its token service and its blob host; longer than the pauses in a poll.
_KEPT_THROUGH_PROXY = httpx.Limits(max_connections=None, max_keepalive_connections=4, keepalive_expiry=30)


class HostLimits:
    """Shared by all threads that talk to one host."""

    def __init__(self, waits: Waits, *, concurrent: int, per_second: float | None = None) -> None:
        self._waits = waits
        self._slots = BoundedSemaphore(concurrent)
        # A slot stays free for small requests, or a poll would queue behind a gigabyte.
        self._bulk = BoundedSemaphore(concurrent - 1 if concurrent > 2 else concurrent)
        self._interval = 1 / per_second if per_second else 0.0
        self._gap = 0.0
        self._next = 0.0
        self._paused_until = self._closed_until = float("-inf")
        self._queue = 0  # how many wait for a slot
        self._lock = Lock()

    def acquire(self, *, bulk: bool = False) -> None:
        """Take one of the host's slots, `bulk` for what may take long, until `release`. Raises `Stopped`."""
        taken: list[BoundedSemaphore] = []
        try:
            for semaphore in (self._bulk, self._slots) if bulk else (self._slots,):
                self._acquire(semaphore)
                taken.append(semaphore)
            self._waits.sleep(self._turn())
        except BaseException:
            for semaphore in taken:
                semaphore.release()
            raise

    def _acquire(self, semaphore: BoundedSemaphore) -> None:
        if semaphore.acquire(blocking=False):
            return
        with self._lock:
            self._queue += 1
        try:
            self._waits.acquire(semaphore)
        finally:
            with self._lock:
                self._queue -= 1

    @property
    def is_sought(self) -> bool:
        """Whether somebody waits for a slot: who uses one for many requests shall give it back."""
        return self._queue > 0

    def try_acquire(self) -> bool:
        """Take a slot that is free, and that nobody waits for, for requests without any pause between them.
        `release` it."""
        return self.is_unpaced() and not self.is_sought and self._slots.acquire(blocking=False)

    def is_unpaced(self) -> bool:
        """Whether requests may go out as they come: no `reqPerSec`, and the host has not asked us to wait."""
        now = self._waits.clock()
        return not (self._interval or self._gap) and now >= max(self._paused_until, self._closed_until)

    def release(self, *, bulk: bool = False) -> None:
        self._slots.release()
        if bulk:
            self._bulk.release()

    def _turn(self) -> float:
        """Seconds until this request may go out; the next one comes after it."""
        with self._lock:
            now = self._waits.clock()
            mine = max(now, self._next)
            self._next = mine + max(self._interval, self._gap)
            return mine - now

    def limited(self, retry_after: float | None) -> None:
        """The host answered 429, or asked us to wait `retry_after` seconds: until then nobody asks it
        anything, and afterwards one by one."""
        with self._lock:
            now = self._waits.clock()
            if retry_after is not None and retry_after > MAX_WAIT:
                self._closed_until = now + min(retry_after, _LONGEST_CLOSED)
                return
            # Requests that were on their way already say nothing about the new rate.
            if now >= self._paused_until:
                self._gap = min(max(self._gap * 2, _FIRST_GAP), _LONGEST_GAP)
            self._paused_until = now + (_PAUSE if retry_after is None else retry_after)
            self._next = max(self._next, self._paused_until)

    def closed_for(self) -> float:
        """Seconds until the host may be asked again, where that is too long to wait; 0 where it is not."""
        return max(self._closed_until - self._waits.clock(), 0.0)

    def welcome(self) -> None:
        """The host answered well."""
        if self._gap:
            with self._lock:
                self._gap = self._gap * _SHRINK if self._gap > _NO_GAP else 0.0


class Transports:
    """Connections to hosts, some kept for further requests. Thread-safe.

    A transport that many threads share costs twice the CPU (its pool is searched under a lock), so each
    exchange borrows one. Borrowing, unlike `threading.local`, keeps as many as there are exchanges at a time,
    however many threads come and go.
    """

    def __init__(self, verify: ssl.SSLContext, proxy: Proxy | None, *, keep: int) -> None:
        """`keep`: how many idle transports, and so idle connections to a host, are kept."""
        self._verify = verify
        self._proxy = httpx.Proxy(proxy.url, ssl_context=proxy.context) if proxy else None
        self._keep = keep
        self._idle: deque[httpx.BaseTransport] = deque()
        self._lent: set[httpx.BaseTransport] = set()
        self._closed = False

    def take(self) -> httpx.BaseTransport:
        """It sends requests as they are: no redirects, no cookies, nothing added. `give_back` it.

        httpx must not read the environment: it refuses `NO_PROXY=[::1]` and ignores networks (proxies.py).
        """
        try:
            taken = self._idle.pop()  # the one used last: its connections are the freshest
        except IndexError:
            taken = self._new()
        self._lent.add(taken)
        return taken

    def number(self, origin: Origin) -> int:
        """How many connections to `origin` there may be: those that are kept, and all that are lent."""
        kept = (each for each in list(self._idle) if isinstance(each, Http1Transport) and each.keeps(origin))
        return 0 if self._proxy else len(list(kept)) + len(self._lent)

    def take_kept(self, origin: Origin) -> tuple[Http1Transport, Connection] | None:
        """An idle connection to `origin`, and its transport, which has to be given back."""
        passed: list[httpx.BaseTransport] = []
        try:
            while self._idle:
                transport = self.take()
                if isinstance(transport, Http1Transport) and (connection := transport.take(origin)):
                    return transport, connection
                passed.append(transport)
        finally:
            for transport in reversed(passed):
                self.give_back(transport)
        return None

    def give_back(self, transport: httpx.BaseTransport) -> None:
        self._lent.discard(transport)
        if self._closed or len(self._idle) >= self._keep:
            transport.close()
        else:
            self._idle.append(transport)

    def _new(self) -> httpx.BaseTransport:
        if self._proxy is None:
            return Http1Transport(self._verify)
        return httpx.HTTPTransport(
            verify=self._verify, limits=_KEPT_THROUGH_PROXY, proxy=self._proxy, trust_env=False
        )

    def close(self) -> None:
        """Close all that are idle; those on loan close when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
