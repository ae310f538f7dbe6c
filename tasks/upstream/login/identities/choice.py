"""Which credentials a registry entry or a destination uses: stored ones, or those of an identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.model.credential_helper import missing_library
from tasks.upstream.errors import CredentialsInvalid
from tasks.upstream.login.identities.issued import Issued, IssuedCredentials

if TYPE_CHECKING:
    from profiles.model.credential_helper import Identified
    from tasks.upstream.login.credentials import Credentials
    from tasks.upstream.login.identities.issued import Issuer


def credentials_for(settings: Identified, stored: Credentials, *, write: bool = False) -> Credentials:
    """Those of `credentialHelper`, which come before `stored`, as in zot. `write`: for a destination."""
    if settings.credential_helper is None:
        return stored
    return IssuedCredentials(_issuer(settings, write=write))


def _issuer(settings: Identified, *, write: bool) -> Issuer:
    """A vendor's library is imported when its first token is needed."""
    helper = settings.credential_helper
    if missing := missing_library(helper or ""):
        return _Missing(f"credentialHelper {helper}: {missing}")
    if helper == "ecr":
        from tasks.upstream.login.identities.amazon import AmazonIssuer

        return AmazonIssuer()
    if helper == "gcp":
        from tasks.upstream.login.identities.google import GoogleIssuer

        return GoogleIssuer(write=write)
    if helper == "acr":
        from tasks.upstream.login.identities.azure import AzureIssuer

        return AzureIssuer()
    from tasks.upstream.login.identities.oauth2 import OAuth2Issuer

    assert settings.oauth2_credential_helper is not None, "the profile was checked"
    return OAuth2Issuer(settings.oauth2_credential_helper)


class _Missing:
    """In place of an identity whose library is not installed: each registry that needs it says so."""

    def __init__(self, message: str) -> None:
        self._message = message

    def issue(self, host: str) -> Issued:
        raise CredentialsInvalid(f"{host}: {self._message}")
