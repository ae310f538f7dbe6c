"""A call to a registry: signed, redirected, and turned into an answer or into an error."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import httpx
from cachetools import LRUCache

from tasks.upstream import bodies
from tasks.upstream.answers import Reply, asked_to_wait, failure, is_pull_limit
from tasks.upstream.errors import UpstreamProtocolError, Where
from tasks.upstream.login.auth import Authenticator
from tasks.upstream.login.realm import origin
from tasks.upstream.redirects import MAX_REDIRECTS, keeps_login, redirected, redirected_within

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping

    from tasks.upstream.budget import Ledger
    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.connection.wire import Answer, Wire
    from tasks.upstream.counting import Counts
    from tasks.upstream.login.auth import Ask
    from tasks.upstream.login.credentials import Credential, Credentials
    from tasks.upstream.options import EndpointUrl

_MOST_ORIGINS = 100  # whose challenges and tokens are remembered: hosts of blobs may be many


@dataclass(frozen=True, slots=True)
class Call:
    """`kind` is what it is counted as: "HEAD manifest". `tail` follows `/v2/REPOSITORY/`; `page` is the
    whole URL of a further page instead."""

    kind: str
    tail: str
    repository: str = ""
    reference: str = ""
    page: httpx.URL | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return self.kind.partition(" ")[0]

    @property
    def bulk(self) -> bool:
        return self.kind in ("GET blob", "GET foreign blob")


class Endpoint:
    """One of the entry's `urls`, with what we know about talking to it."""

    def __init__(
        self,
        url: EndpointUrl,
        credentials: Credentials,
        waits: Waits,
        token_services: Collection[str] = (),
    ) -> None:
        self.url = url
        self._token_services = token_services
        self.base = httpx.URL(f"{url.scheme}://{url.host}")
        self.root = f"{str(self.base).rstrip('/')}/{url.api_path}".rstrip("/")  # `/v2/` follows
        self._credentials = credentials
        self._waits = waits
        self._authenticators: LRUCache[tuple[object, ...], Authenticator] = LRUCache(_MOST_ORIGINS)
        self._lock = Lock()

    def request(self, call: Call) -> httpx.Request:
        return httpx.Request(call.method, call.page or self._url(call), headers=dict(call.headers))

    def _url(self, call: Call) -> httpx.URL:
        repository = f"{self.url.repository(call.repository)}/" if call.repository else ""
        return httpx.URL(f"{self.root}/v2/{repository}{call.tail}")  # `join` would take it apart twice

    def scope(self, call: Call) -> str:
        if not call.repository:
            return "registry:catalog:*"
        return f"repository:{self.url.repository(call.repository)}:pull"

    def where(self, call: Call) -> Where:
        return Where(self.url.registry, call.repository, call.reference)

    def authenticator(self, call: Call, url: httpx.URL) -> Authenticator:
        """For a request of `call` to `url`. Challenge, token and credentials belong to one origin.

        Credentials may differ by namespace (containers-auth.json), so there is one for each credential. Where
        the registry sends us to another origin, we are anonymous.
        """
        with self._lock:
            ours = keeps_login(self.base, url)
            credential = self._credential(call) if ours else None
            key = (credential, origin(url))
            found = self._authenticators.get(key)
            if found is None:
                home = url.join(httpx.URL(self.root).path if ours else "/")
                found = Authenticator(home, credential, self._waits, self._token_services, elsewhere=not ours)
                self._authenticators[key] = found
            return found

    def _credential(self, call: Call) -> Credential | None:
        repository = self.url.repository(call.repository) if call.repository else ""
        return self._credentials.find(self.url.registry, repository)


class Exchanger:
    def __init__(self, wire: Wire, counts: Counts, ledger: Ledger) -> None:
        self._wire = wire
        self._ledger = ledger
        self._counts = counts

    @contextmanager
    def open(self, endpoint: Endpoint, call: Call) -> Iterator[Answer]:
        """The answer, its status below 400; its connection lives as long as the block.

        Raises an `UpstreamError`, `CredentialsInvalid` or `Stopped`.
        """
        with ExitStack() as held:
            yield self._followed(endpoint, call, held)

    def _followed(self, endpoint: Endpoint, call: Call, held: ExitStack) -> Answer:
        where, request = endpoint.where(call), endpoint.request(call)
        for hop in range(MAX_REDIRECTS + 1):
            counted = call.kind if hop == 0 else ""  # a call that is redirected is one request upstream
            answer = self._signed(endpoint, call, request, counted, held)
            if not answer.response.has_redirect_location:
                return answer
            request = redirected(request, answer.response, where)
            held.pop_all().close()  # gives back the slot before another one is taken
        raise UpstreamProtocolError(where, f"it redirects more than {MAX_REDIRECTS} times")

    def _signed(
        self, endpoint: Endpoint, call: Call, request: httpx.Request, counted: str, held: ExitStack
    ) -> Answer:
        """The answer of the origin of `request`, which may be a redirect."""
        where = endpoint.where(call)
        flow = endpoint.authenticator(call, request.url).flow(request, endpoint.scope(call), where)
        try:
            return self._drive(flow, endpoint, call, counted, held)
        finally:
            flow.close()  # gives back the locks of a flow that did not come to its end

    @contextmanager
    def open_foreign(self, endpoint: Endpoint, call: Call) -> Iterator[Answer]:
        """The answer of an address that a manifest names (`call.page`), without our credentials.

        It may be no nearer to us than the registry is (addresses.py). Raises an `UpstreamError` or `Stopped`.
        """
        with ExitStack() as held:
            yield self._foreign(endpoint, call, held)

    def _foreign(self, endpoint: Endpoint, call: Call, held: ExitStack) -> Answer:
        where, request = endpoint.where(call), endpoint.request(call)
        self._count(call.kind)
        for _ in range(MAX_REDIRECTS + 1):
            answer = held.enter_context(self._wire.send(request, endpoint.base, where, bulk=call.bulk))
            if not answer.response.has_redirect_location:
                reply = self._reply(answer, token=False)
                if 200 <= reply.status < 300:
                    return answer
                raise failure(where, reply)
            request = redirected(request, answer.response, where)
            held.pop_all().close()
        raise UpstreamProtocolError(where, f"it redirects more than {MAX_REDIRECTS} times")

    def _drive(
        self,
        flow: Generator[Ask, Reply, None],
        endpoint: Endpoint,
        call: Call,
        counted: str,
        held: ExitStack,
    ) -> Answer:
        where = endpoint.where(call)
        ask = next(flow)
        while True:
            with ExitStack() as attempt:
                self._count(ask.kind or counted)
                answer = self._ask(ask, call, endpoint.base, where, attempt)
                reply = self._reply(answer, token=ask.token)
                if not ask.kind and call.kind.endswith(" manifest"):
                    self._ledger.read(reply.headers)
                try:
                    ask = flow.send(reply)
                except StopIteration:
                    if not (200 <= reply.status < 300 or answer.response.has_redirect_location):
                        raise failure(where, reply) from None
                    held.push(attempt.pop_all())
                    return answer

    def _ask(self, ask: Ask, call: Call, home: httpx.URL, where: Where, held: ExitStack) -> Answer:
        """Redirects of the login are followed within its origin, those of `call` by `_followed`."""
        request = ask.request
        for _ in range(MAX_REDIRECTS):
            answer = held.enter_context(
                self._wire.send(request, home, where, bulk=call.bulk and not ask.kind)
            )
            further = redirected_within(request, answer.response, token=ask.token) if ask.kind else None
            if further is None:
                return answer
            request = further
            held.pop_all().close()
        raise UpstreamProtocolError(where, f"it redirects more than {MAX_REDIRECTS} times")

    def _count(self, kind: str) -> None:
        if kind:
            self._counts.add(kind)

    def _reply(self, answer: Answer, *, token: bool) -> Reply:
        body = b""
        if token and answer.status == 200:
            body = bodies.read_whole(answer, bodies.MAX_TOKEN, "the answer of its token service")
        elif answer.status >= 400:
            body = bodies.read_head(answer, bodies.MAX_ERROR)
        reply = Reply(answer.status, answer.headers, body)
        self._note_rate(answer, reply)
        return reply

    def _note_rate(self, answer: Answer, reply: Reply) -> None:
        """Only a 429 is about the rate of all requests; 503 may be about one image."""
        limits = self._wire.limits(answer.url)
        if reply.status == 429:
            limits.limited(None if is_pull_limit(reply) else asked_to_wait(reply))
        elif reply.status < 400:
            limits.welcome()
