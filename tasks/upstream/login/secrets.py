"""What of a request is secret. Who answers may say it back, and their words are shown and kept."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    import httpx

    from tasks.upstream.login.token_requests import Ask

_SHORTEST: Final = 4  # characters: what is shorter stands in any text
_FORM: Final = frozenset({"password", "refresh_token", "access_token", "client_secret"})


def secrets_of(ask: Ask) -> tuple[str, ...]:
    """Longest first, so that none is left in part."""
    found = {*_of_header(ask.request.headers.get("Authorization", ""))}
    if ask.kind:  # requests of a login have their bodies in memory
        found.update(_of_form(ask.request))
    return tuple(sorted((each for each in found if len(each) >= _SHORTEST), key=len, reverse=True))


def _of_header(value: str) -> tuple[str, ...]:
    scheme, _, credential = value.partition(" ")
    if scheme.lower() != "basic":
        return (credential,)
    try:
        _, _, password = base64.b64decode(credential).decode().partition(":")
    except (binascii.Error, ValueError):
        password = ""
    return credential, password


def _of_form(request: httpx.Request) -> list[str]:
    if not request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return []
    return [value for key, value in parse_qsl(request.content.decode()) if key in _FORM]
