"""Who is calling: from the Authorization header to a user, or to a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_server.http.auth.auth_errors import too_many, unauthorised
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
from registry_server.http.auth.password_checker import TooManyAttempts
from registry_server.http.auth.tokens import TokenRefused

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry_server.http.auth.password_checker import PasswordChecker
    from registry_server.http.auth.token_scopes import Claims
    from registry_server.http.auth.tokens import TokenIssuer

TOKEN_PATH = "/auth/token"  # noqa: S105 - a path


@dataclass(frozen=True, slots=True)
class Caller:
    """`user` is "" for anonymous; `claims` bound what a token may be used for; None: no bound."""

    user: str = ""
    claims: Claims | None = None
    explicit: bool = False  # anonymous on purpose: an anonymous token, or an empty Basic header


class RequestAuthenticator:
    """Recognises callers by password or token. Without `passwords` nobody can sign in."""

    def __init__(
        self, passwords: PasswordChecker | None, token_issuer: TokenIssuer | None, external_url: str
    ) -> None:
        self._passwords, self._external_url = passwords, external_url.rstrip("/")
        self.token_issuer = token_issuer if passwords else None

    @property
    def can_sign_in(self) -> bool:
        return self._passwords is not None

    async def authenticate(self, request: Request) -> Caller:
        """Raises `AccessRefused` for credentials that are wrong, never for none."""
        if self._passwords is None:
            return Caller(explicit=True)  # credentials mean nothing here, as on any open registry
        try:
            found = read_credentials(request.scope["headers"])
        except CredentialsMalformed as error:
            raise unauthorised(self.challenge(request), str(error)) from error
        match found:
            case Password(user, password):
                return await self.sign_in(request, user, password)
            case Token(text):
                return self._by_token(request, text)
            case Anonymous(explicit):
                return Caller(explicit=explicit)

    async def sign_in(self, request: Request, user: str, password: str) -> Caller:
        """Raises `AccessRefused`."""
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

    def _by_token(self, request: Request, text: str) -> Caller:
        if self.token_issuer is None or self._passwords is None:
            raise unauthorised(self.challenge(request), "this registry does not accept tokens")
        try:
            bearer = self.token_issuer.authenticate(text)
        except TokenRefused as error:
            raise unauthorised(self.challenge(request, error="invalid_token"), str(error)) from error
        if bearer.user and not self._passwords.knows(bearer.user):
            raise unauthorised(
                self.challenge(request, error="invalid_token"), "the user of this token no longer exists"
            )
        return Caller(bearer.user, bearer.claims, explicit=not bearer.user)

    def _realm(self, request: Request) -> str:
        return (self._external_url or _origin(request)) + TOKEN_PATH


def _origin(request: Request) -> str:
    host, port = request.scope.get("server") or ("localhost", 0)
    return origin(request.scope["scheme"], request.headers.get("Host"), f"{host}:{port}")
