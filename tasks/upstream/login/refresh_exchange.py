"""Azure Container Registry: a token of Entra ID becomes its refresh token, and that access tokens.

Microsoft documents it under "Authenticate with the registry service": `POST /oauth2/exchange`, then
`POST /oauth2/token`.
"""

from __future__ import annotations

import json
from threading import Lock
from typing import TYPE_CHECKING

import httpx

from tasks.upstream.login.token_requests import TOKEN, Ask, refresh_request

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tasks.upstream.answers import Reply
    from tasks.upstream.login.credentials import Credential

_LIFE = 3600.0  # seconds that a refresh token is used; the registry accepts it for three hours


class RefreshExchange:
    """Of one registry; keeps its refresh token. Thread-safe."""

    def __init__(self) -> None:
        self._token = ""
        self._until = float("-inf")
        self._lock = Lock()

    def ask(
        self, credential: Credential, realm: httpx.URL, service: str, scope: str, clock: Callable[[], float]
    ) -> Generator[Ask, Reply, Reply]:
        """The answer of the token service, or that of the exchange where it refuses.

        A refresh token that is refused is replaced once: the registry may have ended it early.
        """
        kept = self._kept(clock())
        if kept:
            reply = yield Ask(refresh_request(realm, service, scope, kept), TOKEN)
            if reply.status != 401:
                return reply
        reply = yield Ask(_exchange_request(realm, service, credential.exchange_token), TOKEN)
        token = _refresh_token(reply)
        if not token:
            return reply
        with self._lock:
            self._token, self._until = token, clock() + _LIFE
        return (yield Ask(refresh_request(realm, service, scope, token), TOKEN))

    def _kept(self, now: float) -> str:
        with self._lock:
            return self._token if now < self._until else ""


def _exchange_request(realm: httpx.URL, service: str, token: str) -> httpx.Request:
    form = {"grant_type": "access_token", "service": service or realm.host, "access_token": token}
    return httpx.Request("POST", realm.join("/oauth2/exchange"), data=form)


def _refresh_token(reply: Reply) -> str:
    """ "" where there is none."""
    try:
        token = json.loads(reply.body)["refresh_token"] if reply.status == 200 else ""
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return token if isinstance(token, str) and token.isascii() and token.isprintable() else ""
