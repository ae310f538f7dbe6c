"""Logging in to a registry after a 401, without any I/O (distribution-spec, "Token Authentication").

`Authenticator.flow()` yields requests and is sent replies; whoever drives it does the network.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import httpx

from tasks.upstream.answers import Reply, failure
from tasks.upstream.errors import UpstreamLoginDenied, UpstreamNotFound, UpstreamProtocolError
from tasks.upstream.login.challenge import Challenge, choose, parse_challenges
from tasks.upstream.login.realm import check_realm

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping

    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.errors import UpstreamError, Where
    from tasks.upstream.login.credentials import Credential

CLIENT_ID = "mirrorflow"
TOKEN, PING = "GET token", "GET ping"
_DEFAULT_LIFE = 60  # seconds; the floor that all clients keep too


@dataclass(frozen=True, slots=True)
class Token:
    """`expires` on our own clock, a little early: the server's clock may be wrong."""

    value: str = field(repr=False)
    expires: float


def parse_token(body: bytes, now: float, where: Where) -> Token:
    """Raises `UpstreamProtocolError`."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UpstreamProtocolError(where, "its token service answered something that is not a JSON object")
    value = answer.get("token") or answer.get("access_token")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise UpstreamProtocolError(where, "its token service answered without a token")
    life = _life(answer)
    return Token(value, now + life - max(life * 0.1, 10))


def _life(answer: dict[str, Any]) -> float:
    life = answer.get("expires_in")
    if not isinstance(life, int | float) or isinstance(life, bool) or not math.isfinite(life):
        return _DEFAULT_LIFE
    return min(max(life, _DEFAULT_LIFE), 24 * 3600)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to make. `kind` is what it is counted as, "" for the caller's own."""

    request: httpx.Request
    kind: str = ""


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
    ) -> None:
        """`elsewhere`: it is not the registry, but an origin that it sends us to."""
        self._origin = origin
        self._token_services = token_services
        self._elsewhere = elsewhere
        self._credential = credential
        self._waits = waits
        self._challenge: Challenge | None = None
        self._pinged = False
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
            return
        challenge = yield from self._challenged(reply)
        if challenge is None or (challenge.scheme == "basic" and used):
            raise failure(where, reply)  # nothing to answer it with, or refused what we have
        self._challenge = challenge
        for named in self._names(challenge, reply, scope):
            self._forget(scope, used)
            self._scopes[scope] = named
            refused, used = used, (yield from self._signed(request, scope, where, challenge))
            if used != refused and (yield Ask(request)).status != 401:
                return

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
            who = f"as {self._credential.username!r}" if self._credential else "anonymously"
            raise UpstreamLoginDenied(
                where, f"{realm.host} gives no token for {scope or 'it'} {who}", reply.status
            )
        if reply.status != 200:
            raise _of_token_service(failure(where, reply, speaker=f"the token service {realm.host}"))
        return parse_token(reply.body, self._waits.clock(), where)

    def _answered(self, realm: httpx.URL, service: str, scope: str) -> Generator[Ask, Reply, Reply]:
        credential = self._credential
        if credential is not None and credential.identity_token:
            reply = yield Ask(_refresh(realm, service, scope, credential), TOKEN)
            if reply.status not in (404, 405):
                return reply
        reply = yield Ask(_get(realm, service, scope, credential), TOKEN)
        return reply


def _of_token_service(error: UpstreamError) -> UpstreamError:
    """404 of a token service says nothing about a repository."""
    if not isinstance(error, UpstreamNotFound):
        return error
    return UpstreamLoginDenied(error.where, error.reason, error.status)


def _chosen(reply: Reply) -> Challenge | None:
    return choose(parse_challenges(reply.headers.get_list("WWW-Authenticate")))


def _get(realm: httpx.URL, service: str, scope: str, credential: Credential | None) -> httpx.Request:
    """The realm may have a query of its own, which stays."""
    query = realm.params
    query = query.set("service", service) if service else query
    for each in scope.split():
        query = query.add("scope", each)
    request = httpx.Request("GET", realm.copy_with(params=query.set("client_id", CLIENT_ID)))
    if credential is not None and credential.username and credential.password:
        request.headers["Authorization"] = credential.basic
    return request


def _refresh(realm: httpx.URL, service: str, scope: str, credential: Credential) -> httpx.Request:
    form: Mapping[str, str] = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": CLIENT_ID,
        "scope": scope,
        "refresh_token": credential.identity_token,
    }
    return httpx.Request("POST", realm, data=form)
