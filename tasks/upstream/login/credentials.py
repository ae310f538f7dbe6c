"""Who we are to an upstream."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and password, or an `identity_token` (OAuth refresh token), or a `registry_token` (sent as it
    is), or an `exchange_token` (of Entra ID, for which an Azure registry gives a refresh token).

    Nothing secret shows in its repr. `identity` says in words whom an issued credential is for.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    exchange_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)
    identity: str = field(default="", compare=False)

    @property
    def who(self) -> str:
        """For messages: `'alice'`, or the identity."""
        return self.identity or (repr(self.username) if self.username else "the bearer of a token")

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617, UTF-8)."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class Credentials(Protocol):
    """Where credentials come from. Raises `CredentialsInvalid`."""

    def find(self, registry: str, repository: str = "") -> Credential | None:
        """For a host with port as `urls` has it, or `docker.io`; None: go anonymously."""


class NoCredentials:
    def find(self, registry: str, repository: str = "") -> Credential | None:  # noqa: ARG002 - the protocol's signature
        return None
