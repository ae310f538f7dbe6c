"""The public keys of an issuer: found by OpenID Connect Discovery, kept, and fetched again when they rotate.

A token of a key that is not known makes one request, at most once in half a minute: whoever invents tokens
causes no more than that. While an issuer cannot be reached its keys count for a day.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.request import OpenerDirector

    from registry_server.http.auth.oidc.options import IssuerOptions

_log = logging.getLogger("mirrorflow.oidc")
_FRESH = 3600.0  # seconds until keys are fetched again although all are known
_USABLE = 86400.0  # seconds that keys count while they cannot be fetched
_APART = 30.0  # seconds between two requests
_TIMEOUT = 10.0  # seconds
_MAX_BODY = 512 * 1024  # bytes
_PIECE = 64 * 1024  # bytes
_MOST_KEYS = 100
_KTY = frozenset(
    {"RSA", "EC", "OKP"}
)  # RFC 7518, 6.1; `oct` is a shared secret, which a public document has not


class IssuerUnreachable(MirrorflowError):
    """The keys of an issuer could not be fetched, and none are known."""

    retryable = True


class KeySet:
    """For one event loop."""

    def __init__(self, options: IssuerOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._keys: list[Mapping[str, Any]] = []
        self._fetched = self._asked = float("-inf")
        self._turn = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None  # asyncio keeps no reference of its own

    async def candidates(self, key_id: str | None) -> list[Mapping[str, Any]]:
        """The JWKs that may have signed a token: that of its `kid`, or all where it has none.

        Raises `IssuerUnreachable`.
        """
        if not self._known(key_id):
            async with self._turn:
                if not self._known(key_id):
                    await self._refresh()
        elif self._clock() - self._fetched >= _FRESH and not self._turn.locked():
            self._renewal = asyncio.create_task(self._renew())  # nobody waits for it
        if self._clock() - self._fetched >= _USABLE:
            raise IssuerUnreachable(f"the keys of {self._options.issuer} cannot be fetched; try again later")
        return self._known(key_id)

    async def _renew(self) -> None:
        async with self._turn:
            await self._refresh()

    def _known(self, key_id: str | None) -> list[Mapping[str, Any]]:
        return [key for key in self._keys if key_id is None or key.get("kid") == key_id]

    async def _refresh(self) -> None:
        now = self._clock()
        if now - self._asked < _APART:
            return
        self._asked = now
        try:
            self._keys = await asyncio.to_thread(_fetch, self._options)
        except (MirrorflowError, OSError, ValueError) as error:
            _log.warning("keys of %s: %s", self._options.issuer, error)
            return
        self._fetched = now


def _fetch(options: IssuerOptions) -> list[Mapping[str, Any]]:
    """OpenID Connect Discovery 1.0, 4; RFC 7517, 5. Raises `IssuerUnreachable`, `OSError`, `ValueError`."""
    context = ssl.create_default_context(
        cafile=options.authority_file or None, cadata=options.authority or None
    )
    opener = build_opener(HTTPSHandler(context=context), _NoRedirect())
    # Where `issuer` has a path, it comes first (OpenID Connect Discovery 1.0, 4.1).
    place = f"{options.issuer.rstrip('/')}/.well-known/openid-configuration"
    found = _document(opener, place)
    if found.get("issuer") != options.issuer:
        raise IssuerUnreachable(f"{place} is about another issuer, {found.get('issuer')!r:.200}")
    address = found.get("jwks_uri")
    if not isinstance(address, str) or not _is_safe(address, options.issuer):
        raise IssuerUnreachable(f"{place} has no `jwks_uri` with https")
    keys = _document(opener, address).get("keys")
    if not isinstance(keys, list):
        raise IssuerUnreachable(f"{address} has no list of keys")
    return [key for key in keys[:_MOST_KEYS] if _is_usable(key)]


class _NoRedirect(HTTPRedirectHandler):
    """Keys come from the address that the issuer names, and from nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _is_safe(address: str, issuer: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" == urlsplit(issuer).scheme)


def _is_usable(key: Any) -> bool:
    return isinstance(key, dict) and key.get("kty") in _KTY and key.get("use", "sig") == "sig"


def _document(opener: OpenerDirector, address: str) -> dict[str, Any]:
    request = Request(address, headers={"Accept": "application/json"})  # noqa: S310 - http(s): _is_safe, and the profile
    try:
        with opener.open(request, timeout=_TIMEOUT) as answer:
            body = _read(answer, address)
    except HTTPError as error:
        with error:
            raise IssuerUnreachable(f"{address} answers {error.code}") from error
    except HTTPException as error:
        raise IssuerUnreachable(f"{address}: {type(error).__name__}") from error
    try:
        found = json.loads(body)
    except RecursionError:
        found = None
    if not isinstance(found, dict):
        raise IssuerUnreachable(f"{address} answers something that is not a JSON object")
    return found


def _read(answer: Any, address: str) -> bytes:
    """A timeout of the socket alone would let an answer drip for ever."""
    body, end = b"", time.monotonic() + _TIMEOUT
    while chunk := answer.read1(_PIECE):
        body += chunk
        if len(body) > _MAX_BODY or time.monotonic() > end:
            raise IssuerUnreachable(f"{address} answers more than {_MAX_BODY} bytes, or too slowly")
    return body
