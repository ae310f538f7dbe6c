"""Bearer tokens that this server issues to itself: JWTs (RFC 7519) signed with Ed25519 (RFC 8037).

The header of a token is compared with ours byte by byte instead of being read: there is no algorithm to
choose, no key to bring along, nothing that an `alg: none`, a `jwk` or a `kid` could talk us into.
"""

from __future__ import annotations

import base64
import json
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature

from registry_server.http.auth.token_scopes import Claims
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.http.auth.signing_key import KeyRing

_ISSUER = "mirrorflow"
_LONGEST = 16 * 1024
_SKEW = 5  # seconds: workers share a clock, hosts that share a key may not


class TokenRefused(MirrorflowError):
    """Not a token of ours, not for this service, or not now."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a token stands for ("": anonymous), and what for. `issuer`: who said so; "": the password file."""

    user: str
    claims: Claims
    groups: frozenset[str] = frozenset()
    issuer: str = ""


class TokenIssuer:
    """Issues tokens and recognises them; `keys` are asked for each time, because they may be replaced."""

    def __init__(
        self,
        keys: Callable[[], KeyRing],
        service: str,
        lifetime: float,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self.service, self._lifetime, self._clock = service, int(lifetime), clock

    def issue(
        self,
        user: str,
        claims: Claims,
        *,
        groups: frozenset[str] = frozenset(),
        issuer: str = "",
        until: float = math.inf,
    ) -> dict[str, Any]:
        """The answer of a token endpoint: `token`, `access_token`, `expires_in`, `issued_at`.

        `until` (unix time) is when what the user showed ends: no token holds longer.
        """
        now = int(self._clock())
        lifetime = int(max(min(self._lifetime, until - now), 1))
        payload = {
            "iss": _ISSUER,
            "sub": user,
            "aud": self.service,
            "iat": now,
            "nbf": now - _SKEW,
            "exp": now + lifetime,
            "jti": os.urandom(8).hex(),
            "access": claims.to_json(),
        } | ({"groups": sorted(groups), "idp": issuer} if issuer else {})
        signed = _HEADER + b"." + _encode(json.dumps(payload).encode())
        token = (signed + b"." + _encode(self._keys().private.sign(signed))).decode()
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        # `access_token` is OAuth's name for it; clients read either.
        return {"token": token, "access_token": token, "expires_in": lifetime, "issued_at": issued}

    def authenticate(self, token: str) -> Bearer:
        """Raises `TokenRefused`."""
        payload = self._verified(token)
        now = self._clock()
        try:
            ours = payload["iss"] == _ISSUER and payload["aud"] == self.service
            if not ours or not payload["nbf"] <= now < payload["exp"]:
                raise TokenRefused("the token is not for this service, or has expired")
            groups = frozenset(payload.get("groups", ()))
            claims = Claims.from_json(payload["access"])
            return Bearer(payload["sub"], claims, groups, payload.get("idp", ""))
        except (KeyError, TypeError, AttributeError) as error:
            raise TokenRefused("the token lacks a claim") from error

    def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > _LONGEST or not token.isascii():
            raise TokenRefused("not a token")
        signed, _, signature = token.encode().rpartition(b".")
        header, _, payload = signed.partition(b".")
        if header != _HEADER:
            raise TokenRefused("the token was not issued here")
        try:
            self._check_signature(_decode(signature), signed)
            found = json.loads(_decode(payload))
        except (InvalidSignature, ValueError) as error:
            raise TokenRefused("the token was not issued here") from error
        if not isinstance(found, dict):
            raise TokenRefused("the token has no claims")
        return found

    def _check_signature(self, signature: bytes, signed: bytes) -> None:
        """Raises `InvalidSignature` when it is of none of the keys."""
        for public in self._keys().public:
            with suppress(InvalidSignature):
                public.verify(signature, signed)
                return
        raise InvalidSignature


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


_HEADER = _encode(b'{"alg":"EdDSA","typ":"JWT"}')
