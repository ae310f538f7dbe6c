"""Logging in to a registry after a 401, without any I/O (distribution-spec, "Token Authentication").

`Authenticator.flow()` yields requests and is sent replies; whoever drives it does the network.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import httpx

from tasks.upstream.answers import Reply, failure
from tasks.upstream.errors import UpstreamLoginDenied, UpstreamNotFound
from tasks.upstream.login.challenge import Challenge, choose, parse_challenges
from tasks.upstream.login.realm import check_realm
from tasks.upstream.login.refresh_exchange import RefreshExchange
from tasks.upstream.login.token_requests import (
    TOKEN,
    Ask,
    Token,
    parse_token,
    refresh_request,
    token_request,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator

    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.errors import UpstreamError, Where
    from tasks.upstream.login.credentials import Credential

PING = "GET ping"


class Authenticator:
    """Of one origin, whose API is at `origin`/v2/; remembers its challenge and its tokens.

    Thread-safe: one token request per scope, whoever else needs it waits for it.
    """

    def __init__(
        self,
        origin: httpx.URL,
        credential: Credential | None,
        waits: Waits,
        token_services: Collection[str] = (),
        *,
        elsewhere: bool = False,
        assumed: Challenge | None = None,
    ) -> None:
        """`elsewhere`: it is not the registry, but an origin that it sends us to.

        `assumed`: the challenge of a server that is not asked for one.
        """
        self._origin = origin
        self._token_services = token_services
        self._elsewhere = elsewhere
        self._credential = credential
        self._waits = waits
        self._challenge = assumed
        self._pinged = assumed is not None
        self._exchange = RefreshExchange()
        self._tokens: dict[str, Token] = {}
        self._scopes: dict[str, str] = {}  # by what we call them, as the registry calls them
        self._flights: dict[str, Lock] = {}
        self._lock = Lock()

    def flow(self, request: httpx.Request, scope: str, where: Where) -> Generator[Ask, Reply, None]:
        """Yield `request`, signed, up to three times; what it is sent last answers `request`.

        The scope that the challenge names comes before `scope`, which is ours: it is right where names are
        rewritten, and ours is where a proxy does not know what it is called.

        Raises `UpstreamLoginDenied`, another `UpstreamError`, or `Stopped`.
        """
        if self._credential is not None and not self._pinged:
            yield from self._ping()
        used = yield from self._signed(request, scope, where)
        reply = yield Ask(request)
        if reply.status != 401:
            self._check(reply, where)
            return
        challenge = yield from self._challenged(reply)
        if challenge is None or (challenge.scheme == "basic" and used):
            raise self._refused(where, reply)  # nothing to answer it with, or refused what we have
        self._challenge = challenge
        for named in self._names(challenge, reply, scope):
            self._forget(scope, used)
            self._scopes[scope] = named
            refused, used = used, (yield from self._signed(request, scope, where, challenge))
            if used == refused:
                continue
            reply = yield Ask(request)
            if reply.status != 401:
                break
        if (
            reply.status == 401
        ):  # the last reply may have been a token, the same one again: it answers nothing
            raise self._refused(where, reply)
        self._check(reply, where)

    def _check(self, reply: Reply, where: Where) -> None:
        """An identity is nowhere in the profile, so who it was is said where it may not do something."""
        if reply.status in (401, 403) and self._credential is not None and self._credential.identity:
            raise self._refused(where, reply)

    def _refused(self, where: Where, reply: Reply) -> UpstreamError:
        error = failure(where, reply)
        if self._credential is not None and self._credential.identity:
            error.explain(f"{error.reason} (as {self._credential.identity})")
        return error

    def _names(self, challenge: Challenge, reply: Reply, scope: str) -> list[str]:
        """The scopes to ask a token for, one after the other. That of /v2/ is about no repository."""
        if challenge.scheme != "bearer" or challenge != _chosen(reply):
            return [scope]
        names = list(dict.fromkeys(filter(None, (challenge.pull_scope, scope))))
        if not scope.endswith(":pull"):
            return names[::-1]  # to write: a token to read would be refused by the next request
        return names[::-1] if self._scopes.get(scope) == scope else names  # what helped the last time first

    def _ping(self) -> Generator[Ask, Reply, None]:
        """Who answers anonymous clients may show them less than us, so ask for the challenge first."""
        reply = yield self._greeting()
        self._pinged = True
        if reply.status == 401:
            self._challenge = self._challenge or _chosen(reply)

    def _challenged(self, reply: Reply) -> Generator[Ask, Reply, Challenge | None]:
        """Some registries send 401 without a challenge everywhere but at `/v2/`."""
        if (challenge := _chosen(reply)) is not None:
            return challenge
        return _chosen((yield self._greeting()))

    def _greeting(self) -> Ask:
        return Ask(httpx.Request("GET", f"{str(self._origin).rstrip('/')}/v2/"), PING)

    def _signed(
        self, request: httpx.Request, scope: str, where: Where, challenge: Challenge | None = None
    ) -> Generator[Ask, Reply, str]:
        """Set the Authorization header as far as we know how, and return it ("": anonymous)."""
        challenge = challenge or self._challenge
        value = ""
        if self._credential is not None and self._credential.registry_token:
            value = f"Bearer {self._credential.registry_token}"
        elif challenge is not None and challenge.scheme == "basic":
            value = self._basic(where)
        elif challenge is not None:
            token = yield from self._token(challenge, scope, where)
            value = f"Bearer {token}"
        if value:
            request.headers["Authorization"] = value
        return value

    def _basic(self, where: Where) -> str:
        if self._elsewhere:
            raise UpstreamLoginDenied(
                where,
                f"{self._origin.host}, where it redirects to, requires a login, and none is sent there; "
                "name that host in `urls` instead",
                401,
            )
        if self._credential is None or not self._credential.username:
            raise UpstreamLoginDenied(
                where, "it requires a user and password; add them for this host to credentialsFile", 401
            )
        return self._credential.basic

    def _forget(self, scope: str, used: str) -> None:
        """Drop the token that was refused, unless another thread has renewed it meanwhile."""
        with self._lock:
            token = self._tokens.get(scope)
            if token is not None and used == f"Bearer {token.value}":
                del self._tokens[scope]

    def _token(self, challenge: Challenge, scope: str, where: Where) -> Generator[Ask, Reply, str]:
        with self._one_at_a_time(scope):
            token = self._tokens.get(scope)
            if token is None or token.expires <= self._waits.clock():
                named = self._scopes.get(scope, scope)
                token = yield from self._ask_for_token(challenge, named, where)
                self._tokens[scope] = token
            return token.value

    @contextmanager
    def _one_at_a_time(self, scope: str) -> Iterator[None]:
        with self._lock:
            flight = self._flights.setdefault(scope, Lock())
        self._waits.acquire(flight)
        try:
            yield
        finally:
            flight.release()

    def _ask_for_token(self, challenge: Challenge, scope: str, where: Where) -> Generator[Ask, Reply, Token]:
        realm = check_realm(
            challenge.realm,
            self._origin,
            where,
            credentials=self._credential is not None,
            allowed=self._token_services,
        )
        service = challenge.parameters.get("service", "")
        reply = yield from self._answered(realm, service, scope)
        if reply.status in (401, 403):
            who = f"as {self._credential.who}" if self._credential else "anonymously"
            raise UpstreamLoginDenied(
                where, f"{realm.host} gives no token for {scope or 'it'} {who}", reply.status
            )
        if reply.status != 200:
            raise _of_token_service(failure(where, reply, speaker=f"the token service {realm.host}"))
        return parse_token(reply.body, self._waits.clock(), where)

    def _answered(self, realm: httpx.URL, service: str, scope: str) -> Generator[Ask, Reply, Reply]:
        credential = self._credential
        if credential is not None and credential.exchange_token:
            return (yield from self._exchange.ask(credential, realm, service, scope, self._waits.clock))
        if credential is not None and credential.identity_token:
            reply = yield Ask(refresh_request(realm, service, scope, credential.identity_token), TOKEN)
            if reply.status not in (404, 405):
                return reply
        reply = yield Ask(token_request(realm, service, scope, credential), TOKEN)
        return reply


def _of_token_service(error: UpstreamError) -> UpstreamError:
    """404 of a token service says nothing about a repository."""
    if not isinstance(error, UpstreamNotFound):
        return error
    return UpstreamLoginDenied(error.where, error.reason, error.status)


def _chosen(reply: Reply) -> Challenge | None:
    return choose(parse_challenges(reply.headers.get_list("WWW-Authenticate")))
