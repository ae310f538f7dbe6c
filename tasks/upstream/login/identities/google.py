"""`credentialHelper: gcp`: an access token by Application Default Credentials, for Artifact Registry."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from tasks.upstream.errors import CredentialsInvalid, CredentialsUnavailable
from tasks.upstream.login.credentials import Credential
from tasks.upstream.login.identities.issued import Issued

if TYPE_CHECKING:
    from datetime import datetime

_USER = "oauth2accesstoken"  # Artifact Registry, "Authenticate with an access token"
_READ = "https://www.googleapis.com/auth/cloud-platform.read-only"
_WRITE = "https://www.googleapis.com/auth/cloud-platform"


class GoogleIssuer:
    """Of the key file, workload identity federation, gcloud's login or metadata server, as Google looks.

    `write`: for a destination. A host does not matter: the token is for all registries of Google.
    """

    def __init__(self, *, write: bool = False) -> None:
        self._scope = _WRITE if write else _READ

    def issue(self, host: str) -> Issued:
        from google.auth import default
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
        from google.auth.transport.requests import Request

        try:
            found: Any = default(scopes=[self._scope])[0]  # its methods have no types
            found.refresh(Request())
        except DefaultCredentialsError as error:
            raise CredentialsInvalid(f"credentialHelper gcp: {_line(error)}") from error
        except TransportError as error:
            raise CredentialsUnavailable(f"credentialHelper gcp: {_line(error)}") from error
        except GoogleAuthError as error:
            kind = CredentialsUnavailable if error.retryable else CredentialsInvalid
            raise kind(f"credentialHelper gcp: {host} gets no token: {_line(error)}") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            # Of a key file that is none. Its words may show a part of it.
            raise CredentialsInvalid(
                f"credentialHelper gcp: the default credentials cannot be used ({type(error).__name__})"
            ) from None
        who = f"the Google account {_account(found)}"
        if not found.token or found.expiry is None:
            raise CredentialsInvalid(f"credentialHelper gcp: no token for {who}")
        credential = Credential(_USER, found.token, source="credentialHelper gcp", identity=who)
        return Issued(credential, _unix(found.expiry))


def _account(found: Any) -> str:
    for name in ("service_account_email", "account", "client_id"):
        value = getattr(found, name, None)
        if isinstance(value, str) and value:
            return value
    return f"of {type(found).__module__}"


def _unix(naive: datetime) -> float:
    """Google's times are UTC without saying so."""
    return naive.replace(tzinfo=naive.tzinfo or UTC).timestamp()


def _line(error: Exception) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())[:300]
