"""Requests to a token service, and what it answers (distribution, "Token Authentication")."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from tasks.upstream.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.upstream.errors import Where
    from tasks.upstream.login.credentials import Credential

CLIENT_ID = "mirrorflow"
TOKEN = "GET token"  # noqa: S105 - what it is counted as
_DEFAULT_LIFE = 60  # seconds; the floor that all clients keep too


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to make. `kind` is what it is counted as, "" for the caller's own."""

    request: httpx.Request
    kind: str = ""


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


def token_request(realm: httpx.URL, service: str, scope: str, credential: Credential | None) -> httpx.Request:
    """A token for `scope`. The realm may have a query of its own, which stays."""
    query = realm.params
    query = query.set("service", service) if service else query
    for each in scope.split():
        query = query.add("scope", each)
    request = httpx.Request("GET", realm.copy_with(params=query.set("client_id", CLIENT_ID)))
    if credential is not None and credential.username and credential.password:
        request.headers["Authorization"] = credential.basic
    return request


def refresh_request(realm: httpx.URL, service: str, scope: str, token: str) -> httpx.Request:
    """The same by an OAuth refresh token (distribution, "Authenticate with OAuth2")."""
    form: Mapping[str, str] = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": CLIENT_ID,
        "scope": scope,
        "refresh_token": token,
    }
    return httpx.Request("POST", realm, data=form)
