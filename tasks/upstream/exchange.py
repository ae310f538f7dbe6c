"""A call to a registry: signed, redirected, counted, and turned into an answer or into an error."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from tasks.upstream import bodies
from tasks.upstream.answers import Reply, asked_to_wait, failure, is_pull_limit
from tasks.upstream.errors import UpstreamProtocolError
from tasks.upstream.login.auth import TOKEN
from tasks.upstream.redirects import MAX_REDIRECTS, redirected, redirected_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tasks.upstream.budget import Ledger
    from tasks.upstream.connection.wire import Answer, Wire
    from tasks.upstream.endpoints import Asked, Call, Endpoint
    from tasks.upstream.errors import Where
    from tasks.upstream.login.auth import Ask


class Exchanger:
    """Thread-safe. `ledger` reads what answers about manifests say of a pull limit."""

    def __init__(self, wire: Wire, ledger: Ledger) -> None:
        self._wire = wire
        self._ledger = ledger
        self._counter: Counter[str] = Counter()
        self._lock = Lock()

    def count(self, kind: str, number: int = 1) -> None:
        """Add to what the registry was asked: "HEAD manifest", "GET blob", "GET token", "bytes", …"""
        with self._lock:
            self._counter[kind] += number

    def counts(self) -> dict[str, int]:
        """So far."""
        with self._lock:
            return dict(self._counter)

    @contextmanager
    def open(self, endpoint: Endpoint, call: Call) -> Iterator[Answer]:
        """The answer, its status below 400; its connection lives as long as the block.

        Raises an `UpstreamError`, `CredentialsInvalid` or `Stopped`.
        """
        asked = endpoint.asked(call)
        request = asked.request
        with ExitStack() as held:
            for _ in range(MAX_REDIRECTS + 1):
                answer = self._signed(endpoint, asked, request, held)
                if not answer.response.has_redirect_location:
                    yield answer
                    return
                request = redirected(request, answer.response, asked.where)
                held.pop_all().close()  # gives back the slot before another one is taken
            raise _too_many_redirects(asked.where)

    def _signed(self, endpoint: Endpoint, asked: Asked, request: httpx.Request, held: ExitStack) -> Answer:
        """The answer of the origin of `request`, which may be a redirect."""
        counted = asked.kind if request is asked.request else ""  # what is redirected is one request upstream
        login = endpoint.login(asked, request)
        refused: Reply | None = None
        try:
            ask = next(login)
            while True:
                if asked.once and refused is not None and not ask.kind:
                    raise failure(asked.where, refused)  # it is half sent already
                with ExitStack() as attempt:
                    if kind := ask.kind or counted:
                        self.count(kind)
                    answer = self._ask(ask, asked, endpoint.base, attempt)
                    reply = self._reply(answer, token=ask.kind == TOKEN)
                    if not ask.kind and asked.kind.endswith(" manifest"):
                        self._ledger.read(reply.headers)
                    refused = refused if ask.kind else reply
                    try:
                        ask = login.send(reply)
                    except StopIteration:
                        if not (200 <= reply.status < 300 or answer.response.has_redirect_location):
                            raise failure(asked.where, reply) from None
                        held.push(attempt.pop_all())
                        return answer
        finally:
            login.close()  # gives back the locks of a login that did not come to its end

    def _ask(self, ask: Ask, asked: Asked, home: httpx.URL, held: ExitStack) -> Answer:
        """Redirects of the login are followed within its origin, those of the call by `open`."""
        request, bulk = ask.request, asked.bulk and not ask.kind
        for _ in range(MAX_REDIRECTS):
            answer = held.enter_context(self._wire.send(request, home, asked.where, bulk=bulk))
            further = None
            if ask.kind:
                further = redirected_within(request, answer.response, token=ask.kind == TOKEN)
            if further is None:
                return answer
            request = further
            held.pop_all().close()
        raise _too_many_redirects(asked.where)

    @contextmanager
    def open_foreign(self, endpoint: Endpoint, call: Call) -> Iterator[Answer]:
        """The answer of an address that a manifest names (`call.page`), without our credentials.

        It may be no nearer to us than the registry is (addresses.py). Raises an `UpstreamError` or `Stopped`.
        """
        asked = endpoint.asked(call)
        request, where = asked.request, asked.where
        self.count(asked.kind)
        with ExitStack() as held:
            for _ in range(MAX_REDIRECTS + 1):
                answer = held.enter_context(self._wire.send(request, endpoint.base, where, bulk=asked.bulk))
                if not answer.response.has_redirect_location:
                    reply = self._reply(answer, token=False)
                    if not 200 <= reply.status < 300:
                        raise failure(where, reply)
                    yield answer
                    return
                request = redirected(request, answer.response, where)
                held.pop_all().close()
            raise _too_many_redirects(where)

    def _reply(self, answer: Answer, *, token: bool) -> Reply:
        """What of an answer decides about the next request. The host's rate follows it."""
        body = b""
        if token and answer.status == 200:
            body = bodies.read_whole(answer, bodies.MAX_TOKEN, "the answer of its token service")
        elif answer.status >= 400:
            body = bodies.read_head(answer, bodies.MAX_ERROR)
        reply = Reply(answer.status, answer.headers, body)
        if reply.status == 429:  # only this is about the rate of all requests; 503 may be about one image
            answer.limits.limited(None if is_pull_limit(reply) else asked_to_wait(reply))
        elif reply.status < 400:
            answer.limits.welcome()
        return reply


def _too_many_redirects(where: Where) -> UpstreamProtocolError:
    return UpstreamProtocolError(where, f"it redirects more than {MAX_REDIRECTS} times")
