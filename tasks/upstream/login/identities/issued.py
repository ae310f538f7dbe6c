"""Credentials that an identity of the machine is given for a while, renewed before they end."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from tasks.upstream.errors import CredentialsInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.upstream.login.credentials import Credential

_log = logging.getLogger(__name__)
_ERROR_LIFE = (
    10.0  # seconds that a refusal counts for all requests: an endpoint that fails is not asked by each
)
_MARGIN = 60.0  # seconds before the end in which a token is renewed, at least


@dataclass(frozen=True, slots=True)
class Issued:
    """`expires` is unix time."""

    credential: Credential
    expires: float


class Issuer(Protocol):
    """Where an identity gets its credentials."""

    def issue(self, host: str) -> Issued:
        """For the registry at `host`. Raises `CredentialsInvalid`, which shows no secret."""


@dataclass(slots=True)
class _Known:
    issued: Issued | None = None
    renew_at: float = 0.0
    error: CredentialsInvalid | None = None


class IssuedCredentials:
    """What an `Issuer` gives, for each host once until a tenth of its time is left. Thread-safe.

    Where a renewal fails, what holds is used to its end.
    """

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = time.time) -> None:
        self._issuer = issuer
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._lock = Lock()

    def find(self, registry: str, repository: str = "") -> Credential | None:  # noqa: ARG002 - the protocol's signature
        with self._lock:
            known = self._known.setdefault(registry, _Known())
            if self._clock() >= known.renew_at:
                self._renew(registry, known)
            if known.issued is not None and self._clock() < known.issued.expires:
                return known.issued.credential
            raise known.error or CredentialsInvalid(f"{registry}: its credentials ended before they came")

    def _renew(self, registry: str, known: _Known) -> None:
        now = self._clock()
        try:
            known.issued, known.error = self._issuer.issue(registry), None
        except CredentialsInvalid as error:
            known.renew_at, known.error = now + _ERROR_LIFE, error
            if known.issued is not None:
                _log.warning("credentials for %s were not renewed: %s", registry, error)
            return
        life = known.issued.expires - now
        known.renew_at = known.issued.expires - min(life / 2, max(life / 10, _MARGIN))
