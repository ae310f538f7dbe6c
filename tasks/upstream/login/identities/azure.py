"""`credentialHelper: acr`: a token of Microsoft Entra ID, which an Azure registry exchanges for its own.

The exchange is part of the login at the registry (auth.py), so that it uses its certificates and proxies.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from tasks.upstream.errors import CredentialsInvalid, CredentialsUnavailable
from tasks.upstream.login.credentials import Credential
from tasks.upstream.login.identities.issued import Issued

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_SCOPE = "https://containerregistry.azure.net/.default"  # narrower than management.azure.com, which works too


class AzureIssuer:
    """Of the environment, workload identity, managed identity or `az login`, as Microsoft's library looks."""

    def __init__(self) -> None:
        self._source: TokenCredential | None = None

    def issue(self, host: str) -> Issued:
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.identity import DefaultAzureCredential

        try:
            if self._source is None:
                self._source = DefaultAzureCredential()
            found = self._source.get_token(_SCOPE)
        except (ClientAuthenticationError, ValueError) as error:
            raise CredentialsInvalid(f"credentialHelper acr: {host} gets no token: {_line(error)}") from error
        except AzureError as error:  # what is left of them: no connection, or an answer that makes no sense
            raise CredentialsUnavailable(f"credentialHelper acr: {_line(error)}") from error
        who = f"the Azure identity {_identity(found.token)}"
        credential = Credential(exchange_token=found.token, source="credentialHelper acr", identity=who)
        return Issued(credential, float(found.expires_on))


def _identity(token: str) -> str:
    """As the token names it. It is not verified: it is for a message."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        names = [
            f"{key} {claims[key]}" for key in ("appid", "oid", "upn") if isinstance(claims.get(key), str)
        ]
    except (ValueError, LookupError, AttributeError, RecursionError):
        names = []
    return " ".join(names)[:200] or "(its token does not say which)"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
