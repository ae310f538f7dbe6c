"""Tokens of other issuers: which issuer one is of, and whether it is valid for this registry.

Only algorithms with a public key are accepted, and each only with a key of its kind: `none`, and an RSA key
that is taken for the secret of an HMAC, get nowhere (RFC 8725, 3.1 and 3.2).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry_server.http.auth.oidc.claims import ClaimMapper
from registry_server.http.auth.oidc.keys import KeySet
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry_server.http.auth.oidc.claims import Person
    from registry_server.http.auth.oidc.options import IssuerOptions

_LONGEST = 16 * 1024  # characters of a token
_LEEWAY = 60  # seconds that clocks may differ
_MOST_TRIED = 8  # keys, where a token does not say which
_ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}


class IssuedTokenRefused(MirrorflowError):
    """A token of a known issuer that is not valid, or not for this registry. The message shows no claim."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a token proves: `expires` is unix time."""

    person: Person
    issuer: str
    expires: float


class Issuers:
    """All issuers of a registry. Raises `ExpressionInvalid` for an expression that is not CEL."""

    def __init__(self, options: Iterable[IssuerOptions]) -> None:
        self._issuers: dict[str, list[_Issuer]] = {}
        for each in options:
            self._issuers.setdefault(each.issuer, []).append(_Issuer(each))

    def __bool__(self) -> bool:
        return bool(self._issuers)

    def knows(self, issuer: str) -> bool:
        return issuer in self._issuers

    def issued(self, text: str) -> bool:
        """Whether a text is a token that says it is of one of them. Nothing is verified."""
        issuer = _part(text, 1).get("iss")
        return isinstance(issuer, str) and issuer in self._issuers

    async def verify(self, text: str) -> Proof:
        """Of a token that `issued` takes. Raises `IssuedTokenRefused`, `ClaimsRefused`, `IssuerUnreachable`.

        The same issuer may be there twice, for other audiences: the first that accepts the token counts.
        """
        *others, last = self._issuers[_part(text, 1)["iss"]]
        for each in others:
            try:
                return await each.verify(text)
            except IssuedTokenRefused:
                continue
        return await last.verify(text)


class _Issuer:
    def __init__(self, options: IssuerOptions) -> None:
        self._options = options
        self._keys = KeySet(options)
        self._mapper = ClaimMapper(options)

    async def verify(self, text: str) -> Proof:
        header = _part(text, 0)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS or "crit" in header:
            raise IssuedTokenRefused("the token has an algorithm that is not accepted")
        keys = await self._keys.candidates(key_id if isinstance(key_id, str) else None)
        claims = self._decoded(text, algorithm, [key for key in keys if _fits(key, algorithm)])
        return Proof(self._mapper.person(claims), self._options.issuer, float(claims["exp"]))

    def _decoded(self, text: str, algorithm: str, keys: list[Mapping[str, Any]]) -> Mapping[str, Any]:
        import jwt

        for key in keys[:_MOST_TRIED]:
            try:
                claims: Mapping[str, Any] = jwt.decode(
                    text,
                    jwt.PyJWK(dict(key), algorithm),
                    algorithms=[algorithm],
                    audience=list(self._options.audiences),
                    issuer=self._options.issuer,
                    leeway=_LEEWAY,
                    options={"require": ["iss", "sub", "aud", "exp", "iat"]},
                )
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError, jwt.PyJWKError):
                continue
            except jwt.PyJWTError as error:
                raise IssuedTokenRefused(_words(error)) from error
            return claims
        raise IssuedTokenRefused("the token was signed with none of its issuer's keys")


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    return key.get("kty") == _ALGORITHMS[algorithm] and key.get("alg", algorithm) == algorithm


def _words(error: Exception) -> str:
    import jwt

    said = {
        jwt.ExpiredSignatureError: "the token has expired; get a new one",
        jwt.InvalidAudienceError: "the token is for another audience than this registry",
        jwt.ImmatureSignatureError: "the token is not valid yet; check the clocks",
        jwt.MissingRequiredClaimError: "the token lacks one of the claims iss, sub, aud, exp and iat",
    }
    return next((words for kind, words in said.items() if isinstance(error, kind)), "the token is not valid")


def _part(text: str, number: int) -> dict[str, Any]:
    """The header (0) or the claims (1) of a JWT, as they are said; {} for what is none."""
    parts = text.split(".") if len(text) <= _LONGEST and text.isascii() else []
    if len(parts) != 3:
        return {}
    try:
        raw = base64.urlsafe_b64decode(parts[number] + "=" * (-len(parts[number]) % 4))
        found = json.loads(raw)
    except (ValueError, RecursionError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}
