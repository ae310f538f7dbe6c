"""Who is calling: from the Authorization header to a user, or to a refusal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_server.http.auth.auth_errors import too_many, unauthorised, unavailable
from registry_server.http.auth.client_certificates import CertificateRefused
from registry_server.http.auth.credentials import (
    Anonymous,
    CredentialsMalformed,
    Password,
    Token,
    basic_challenge,
    bearer_challenge,
    origin,
    read_credentials,
)
from registry_server.http.auth.oidc.claims import ClaimsRefused
from registry_server.http.auth.oidc.issuers import IssuedTokenRefused
from registry_server.http.auth.oidc.keys import IssuerUnreachable
from registry_server.http.auth.password_checker import TooManyAttempts
from registry_server.http.auth.tokens import TokenRefused
from registry_server.http.forwarded import PROXIED

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry_server.http.auth.client_certificates import CertificateReader
    from registry_server.http.auth.oidc.issuers import Issuers
    from registry_server.http.auth.password_checker import PasswordChecker
    from registry_server.http.auth.token_scopes import Claims
    from registry_server.http.auth.tokens import Bearer, TokenIssuer

_CERTIFICATE = "client certificate"  # in place of the URL of an issuer
TOKEN_PATH = "/auth/token"  # noqa: S105 - a path


@dataclass(frozen=True, slots=True)
class Caller:
    """`user` is "" for anonymous; `claims` bound what a token may be used for; None: no bound.

    `groups` are those that a token of `issuer` named, which ends at `until` (unix time).
    """

    user: str = ""
    claims: Claims | None = None
    explicit: bool = False  # anonymous on purpose: an anonymous token, or an empty Basic header
    groups: frozenset[str] = frozenset()
    issuer: str = ""
    until: float = math.inf


class RequestAuthenticator:
    """Recognises callers by password, token or certificate. Without any of them nobody can sign in."""

    def __init__(
        self,
        passwords: PasswordChecker | None,
        token_issuer: TokenIssuer | None,
        external_url: str,
        issuers: Issuers,
        certificates: CertificateReader | None = None,
    ) -> None:
        self._passwords, self._external_url = passwords, external_url.rstrip("/")
        self._issuers, self._certificates = issuers, certificates
        self.token_issuer = token_issuer if self.can_sign_in else None

    @property
    def can_sign_in(self) -> bool:
        return self._passwords is not None or bool(self._issuers) or self._certificates is not None

    async def authenticate(self, request: Request) -> Caller:
        """Raises `AccessRefused` for credentials that are wrong, never for none."""
        if not self.can_sign_in:
            return Caller(explicit=True)  # credentials mean nothing here, as on any open registry
        try:
            found = read_credentials(request.scope["headers"])
        except CredentialsMalformed as error:
            raise unauthorised(self.challenge(request), str(error)) from error
        match found:
            case Password(user, password):
                return await self.sign_in(request, user, password)
            case Token(text):
                return await self._by_token(request, text)
            case Anonymous(explicit):
                return self._by_certificate(request) or Caller(explicit=explicit)

    async def sign_in(self, request: Request, user: str, password: str) -> Caller:
        """By a password, or by a token of another issuer in its place: `docker login` knows no other way.

        Then the user is whom the token names, whatever name was typed. Raises `AccessRefused`.
        """
        if self._issuers.issued(password):
            return await self._by_issued_token(request, password)
        client = (request.scope.get("client") or ("",))[0]
        try:
            right = self._passwords is not None and await self._passwords.check(user, password, client)
        except TooManyAttempts as error:
            raise too_many(str(error)) from error
        if not right:
            raise unauthorised(self.challenge(request), "wrong user name or password")
        return Caller(user)

    def challenge(self, request: Request, *, scope: str = "", error: str = "") -> str:
        """What a 401 asks for: one scheme only, for clients differ in which of two they choose."""
        if self.token_issuer is None or request.scope["path"] == TOKEN_PATH:
            return basic_challenge()
        return bearer_challenge(self._realm(request), self.token_issuer.service, scope=scope, error=error)

    def _by_certificate(self, request: Request) -> Caller | None:
        """None where there is none, or where anybody could have written it."""
        if self._certificates is None or not request.scope.get(PROXIED):
            return None
        try:
            person = self._certificates.person(request.scope["headers"])
        except CertificateRefused as error:
            raise unauthorised(self.challenge(request), str(error)) from error
        if person is None:
            return None
        return Caller(person.user, groups=person.groups, issuer=_CERTIFICATE)

    async def _by_token(self, request: Request, text: str) -> Caller:
        if self._issuers.issued(text):
            return await self._by_issued_token(request, text)
        if self.token_issuer is None:
            raise unauthorised(self.challenge(request), "this registry does not accept tokens")
        try:
            bearer = self.token_issuer.authenticate(text)
        except TokenRefused as error:
            raise unauthorised(self.challenge(request, error="invalid_token"), str(error)) from error
        if bearer.user and not self._still_knows(bearer):
            raise unauthorised(
                self.challenge(request, error="invalid_token"), "the user of this token no longer exists"
            )
        return Caller(bearer.user, bearer.claims, not bearer.user, bearer.groups, bearer.issuer)

    def _still_knows(self, bearer: Bearer) -> bool:
        if bearer.issuer == _CERTIFICATE:
            return self._certificates is not None
        if bearer.issuer:
            return self._issuers.knows(bearer.issuer)
        return self._passwords is not None and self._passwords.knows(bearer.user)

    async def _by_issued_token(self, request: Request, text: str) -> Caller:
        try:
            proof = await self._issuers.verify(text)
        except IssuerUnreachable as error:
            raise unavailable(str(error)) from error
        except (IssuedTokenRefused, ClaimsRefused) as error:
            raise unauthorised(self.challenge(request, error="invalid_token"), str(error)) from error
        person = proof.person
        return Caller(person.user, groups=person.groups, issuer=proof.issuer, until=proof.expires)

    def _realm(self, request: Request) -> str:
        return (self._external_url or _origin(request)) + TOKEN_PATH


def _origin(request: Request) -> str:
    host, port = request.scope.get("server") or ("localhost", 0)
    return origin(request.scope["scheme"], request.headers.get("Host"), f"{host}:{port}")
