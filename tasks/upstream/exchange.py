"""A call to a registry: signed, redirected, counted, and turned into an answer or into an error."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING

from tasks.upstream import bodies
from tasks.upstream.answers import Reply, asked_to_wait, failure, is_pull_limit
from tasks.upstream.errors import UpstreamError, UpstreamProtocolError
from tasks.upstream.login.secrets import secrets_of
from tasks.upstream.login.token_requests import TOKEN, Ask
from tasks.upstream.redirects import MAX_REDIRECTS, redirected, redirected_within

if TYPE_CHECKING:
    from collections.abc import Generator

    import httpx

    from tasks.upstream.budget import Ledger
    from tasks.upstream.connection.wire import Answer, Begun, Wire
    from tasks.upstream.endpoints import Asked, Call, Endpoint
    from tasks.upstream.errors import Where


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

    def spelled(self, endpoint: Endpoint, call: Call) -> bytes | None:
        """What `open` would send first; None where a login comes before that."""
        asked = endpoint.asked(call)
        login = endpoint.login(asked, asked.request)
        try:
            ask = next(login)
        except UpstreamError:
            return None  # `open` says it
        finally:
            login.close()
        return None if ask.kind else self._wire.spelled(ask.request)

    def open(self, endpoint: Endpoint, call: Call, begun: Begun | None = None) -> Answer:
        """The answer, its status below 400; it has to be closed. `begun`: the first request was sent already.

        Raises an `UpstreamError`, `CredentialsInvalid` or `Stopped`.
        """
        asked = endpoint.asked(call)
        request, counted = asked.request, asked.kind
        for _ in range(MAX_REDIRECTS + 1):
            login = endpoint.login(asked, request)
            try:
                answer = self._answered(login, asked, endpoint.base, counted, begun)
            finally:
                login.close()  # gives back the locks of a login that did not come to its end
            if not answer.redirects:
                return answer
            with answer:  # gives back its slot before another one is taken
                request = redirected(request, answer.response, asked.where)
            counted = ""  # what is redirected is one request upstream
        raise _too_many_redirects(asked.where)

    def _answered(
        self,
        login: Generator[Ask, Reply, None],
        asked: Asked,
        home: httpx.URL,
        counted: str,
        begun: Begun | None,
    ) -> Answer:
        """Make the requests of `login`: the answer to the last, which may be a redirect."""
        ask = next(login)
        refused: Reply | None = None
        while True:
            if kind := ask.kind or counted:
                self.count(kind)
            if begun is None or begun.is_taken or ask.kind:
                answer = self._ask(ask, asked, home)
            else:
                answer = self._wire.resume(begun, ask.request, asked.where)
            try:
                reply = self._reply(answer, ask, asked)
                refused = refused if ask.kind else reply
                ask = login.send(reply)
                if asked.once and refused is not None and not ask.kind:
                    raise failure(asked.where, refused)  # it is half sent already
            except StopIteration:
                if reply.status < 300 or answer.redirects:
                    return answer
                answer.close()
                raise failure(asked.where, reply) from None
            except BaseException:
                answer.close()
                raise
            answer.close()

    def _ask(self, ask: Ask, asked: Asked, home: httpx.URL) -> Answer:
        """Redirects of the login are followed within its origin, those of the call by `open`."""
        request, bulk = ask.request, asked.bulk and not ask.kind
        for _ in range(MAX_REDIRECTS):
            answer = self._wire.send(request, home, asked.where, bulk=bulk)
            further = (
                redirected_within(request, answer.response, token=ask.kind == TOKEN) if ask.kind else None
            )
            if further is None:
                return answer
            answer.close()
            request = further
        raise _too_many_redirects(asked.where)

    def open_foreign(self, endpoint: Endpoint, call: Call) -> Answer:
        """The answer of an address that a manifest names (`call.page`), without our credentials.

        It may be no nearer to us than the registry is (addresses.py). Raises an `UpstreamError` or `Stopped`.
        """
        asked = endpoint.asked(call)
        request, ask = asked.request, Ask(asked.request)
        self.count(asked.kind)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._wire.send(request, endpoint.base, asked.where, bulk=asked.bulk)
            if 200 <= answer.status < 300:
                return answer
            with answer:
                reply = self._reply(answer, ask, asked)
                if not answer.redirects:
                    raise failure(asked.where, reply)
                request = redirected(request, answer.response, asked.where)
        raise _too_many_redirects(asked.where)

    def _reply(self, answer: Answer, ask: Ask, asked: Asked) -> Reply:
        """What of an answer decides about the next request. The host's rate and the pull limit follow it."""
        if answer.status >= 400:
            body = bodies.read_head(answer, bodies.MAX_ERROR)
            reply = Reply(answer.status, answer.headers, body, secrets_of(ask))
        elif ask.kind == TOKEN and answer.status == 200:
            token = bodies.read_whole(answer, bodies.MAX_TOKEN, "the answer of its token service")
            reply = Reply(answer.status, answer.headers, token)
        else:
            reply = Reply(answer.status, answer.headers)
        if reply.status == 429:  # only this is about the rate of all requests; 503 may be about one image
            answer.limits.limited(None if is_pull_limit(reply) else asked_to_wait(reply))
        elif reply.status < 400:
            answer.limits.welcome()
        if not ask.kind and asked.kind.endswith(" manifest"):
            self._ledger.read(reply.headers)
        return reply


def _too_many_redirects(where: Where) -> UpstreamProtocolError:
    return UpstreamProtocolError(where, f"it redirects more than {MAX_REDIRECTS} times")
