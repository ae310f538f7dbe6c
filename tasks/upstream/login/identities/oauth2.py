"""`credentialHelper: oauth2`: an access token for a signed statement of who the mirror is.

RFC 7523 (the statement as the client's login, or as a grant) and RFC 8693 (token exchange).
"""

from __future__ import annotations

import json
import secrets
import ssl
import time
from typing import TYPE_CHECKING, Any

import httpx

from profiles.model.credential_helper import JWT_BEARER, TOKEN_EXCHANGE
from tasks.upstream.answers import Reply, message
from tasks.upstream.connection.proxies import Proxies
from tasks.upstream.errors import CredentialsInvalid, CredentialsUnavailable, ProxyInvalid
from tasks.upstream.login.credentials import Credential
from tasks.upstream.login.identities.issued import Issued

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from profiles.model.credential_helper import OAuth2Helper

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523, 2.2
_JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"  # RFC 8693, 3
_ACCESS_TYPE = "urn:ietf:params:oauth:token-type:access_token"
_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}) | {
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
}
_TIMEOUT = 30.0  # seconds
_DEFAULT_LIFE = 300.0  # seconds, where the endpoint does not say
_ASSERTION_LIFE = 300  # seconds
_MAX_BODY = 64 * 1024  # bytes


class OAuth2Issuer:
    """The files are read again for every token: a platform renews them in place."""

    def __init__(self, settings: OAuth2Helper) -> None:
        self._settings = settings

    def issue(self, host: str) -> Issued:  # noqa: ARG002 - the protocol's signature
        settings = self._settings
        status, body = _post(settings.token_url, _form(settings))
        who = f"the client {settings.client_id!r}" if settings.client_id else "its assertion"
        if status != 200:
            said = message(Reply(status, httpx.Headers(), body))
            kind = CredentialsUnavailable if status >= 500 or status == 429 else CredentialsInvalid
            told = f"{status}{f': {said}' if said else ''}"
            raise kind(f"credentialHelper oauth2: {settings.token_url} gives no token to {who}: {told}")
        token, life = _read(body)
        credential = Credential(
            settings.username,
            token,
            source="credentialHelper oauth2",
            identity=f"{who} at {httpx.URL(settings.token_url).host}",
        )
        return Issued(credential, time.time() + life)


def _form(settings: OAuth2Helper) -> dict[str, str]:
    assertion = _assertion(settings)
    form: dict[str, str] = {"grant_type": settings.grant_type}
    if settings.grant_type == JWT_BEARER:
        form |= {"assertion": assertion}
    elif settings.grant_type == TOKEN_EXCHANGE:
        form |= {
            "subject_token": assertion,
            "subject_token_type": settings.subject_token_type or _JWT_TYPE,
            "requested_token_type": settings.requested_token_type or _ACCESS_TYPE,
            "audience": settings.audience,
        }
    else:
        form |= {"client_assertion": assertion, "client_assertion_type": _ASSERTION_TYPE}
    secret = _text(settings.client_secret_file, "clientSecretFile") if settings.client_secret_file else ""
    more = {
        "client_id": settings.client_id,
        "client_secret": secret,
        "scope": " ".join(settings.scopes),
    }
    return form | {key: value for key, value in more.items() if value}


def _assertion(settings: OAuth2Helper) -> str:
    if settings.assertion_file is not None:
        return _text(settings.assertion_file, "assertionFile")
    assert settings.signing_file is not None, "the profile has one of the two"
    return _signed(settings, settings.signing_file)


def _signed(settings: OAuth2Helper, file: Path) -> str:
    import jwt

    said = _object(file)
    algorithm = said.get("algorithm") or "RS256"
    if algorithm not in _ALGORITHMS:
        raise CredentialsInvalid(
            f"signingFile: {file}: `algorithm` is none of {', '.join(sorted(_ALGORITHMS))}"
        )
    key = _text(file.parent / str(said.get("privateKeyFile") or "privateKeyFile"), "privateKeyFile")
    now = int(time.time())
    claims = {
        "iss": said.get("issuer") or settings.client_id,
        "sub": said.get("subject") or settings.client_id,
        "aud": said.get("audience") or settings.token_url,
        "iat": now,
        "exp": now + _ASSERTION_LIFE,
        "jti": secrets.token_hex(16),  # RFC 7523, 3: lets the endpoint refuse a second use
    }
    headers = {"kid": said["keyId"]} if said.get("keyId") else None
    try:
        return jwt.encode(claims, key, algorithm=algorithm, headers=headers)
    except (jwt.PyJWTError, TypeError, ValueError):
        raise CredentialsInvalid(
            f"signingFile: {file}: `privateKeyFile` is no key for {algorithm}"
        ) from None  # the error may show a part of the key


def _object(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(_text(file, "signingFile"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CredentialsInvalid(f"signingFile: {file} is not a JSON object")
    return found


def _text(file: Path, key: str) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise CredentialsInvalid(f"{key}: {file} cannot be read: {error.strerror}") from error
    except ValueError:
        raise CredentialsInvalid(f"{key}: {file} is not text") from None


def _post(url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
    """Redirects are not followed: the form is for this endpoint alone.

    httpx must not read the environment: it refuses `NO_PROXY=[::1]` (connection/proxies.py).
    """
    try:
        context, proxy = ssl.create_default_context(), Proxies.read().proxy_for(httpx.URL(url))
        with (
            httpx.Client(verify=context, proxy=proxy, trust_env=False, timeout=_TIMEOUT) as client,
            client.stream("POST", url, data=dict(form), headers={"Accept": "application/json"}) as answer,
        ):
            return answer.status_code, _little(answer)
    except ProxyInvalid as error:
        raise CredentialsInvalid(f"credentialHelper oauth2: {error}") from None
    except (httpx.HTTPError, UnicodeError) as error:  # the latter of a host's name that cannot be one
        raise CredentialsUnavailable(
            f"credentialHelper oauth2: {url}: {str(error) or type(error).__name__}"
        ) from None


def _little(answer: httpx.Response) -> bytes:
    """Its body, as far as it is of an endpoint that answers with a token, and in time."""
    body, end = b"", time.monotonic() + _TIMEOUT
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > _MAX_BODY or time.monotonic() > end:
            break
    return body


def _read(body: bytes) -> tuple[str, float]:
    """The token, and for how many seconds it holds."""
    try:
        found = json.loads(body)
        token, life = found["access_token"], found.get("expires_in")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        token, life = "", None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise CredentialsInvalid("credentialHelper oauth2: the token endpoint answered without a token")
    usable = isinstance(life, int | float) and not isinstance(life, bool) and 0 < life < 10**9
    return token, float(life) if usable else _DEFAULT_LIFE
