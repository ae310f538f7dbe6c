"""`credentialHelper: ecr`: a password for Amazon ECR, for whoever Amazon's tools find this machine to be."""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Any

from profiles.values.cloud_registries import ECR_PUBLIC, ecr_region
from tasks.upstream.errors import CredentialsInvalid, CredentialsUnavailable
from tasks.upstream.login.credentials import Credential
from tasks.upstream.login.identities.issued import Issued

if TYPE_CHECKING:
    from botocore.session import Session

_PUBLIC_REGION = "us-east-1"  # the only one in which the public registry gives tokens
_NOBODY = (
    "no AWS credentials: neither in the environment, nor in ~/.aws, nor from a web identity (IRSA), a "
    "container or an instance role"
)
_PASSING = frozenset({"ThrottlingException", "ServerException", "ServiceUnavailable", "InternalFailure"})


class AmazonIssuer:
    """GetAuthorizationToken of the region that the host's name has, else of AWS_REGION.

    A session is made for each token: files and roles that were renewed are read again.
    """

    def issue(self, host: str) -> Issued:
        from botocore import exceptions
        from botocore.session import Session

        session, who = Session(), "the AWS identity of this machine"
        try:
            who = _identity(session)
            answer = _client(session, host).get_authorization_token()
        except exceptions.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            kind = CredentialsUnavailable if code in _PASSING else CredentialsInvalid
            raise kind(f"credentialHelper ecr: {host} gives no token to {who}: {error}") from error
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
            raise CredentialsUnavailable(f"credentialHelper ecr: {error}") from error
        except exceptions.BotoCoreError as error:
            raise CredentialsInvalid(f"credentialHelper ecr: {error}") from error
        return _issued(answer, who)


def _identity(session: Session) -> str:
    """In words. The id of a key is no secret."""
    found = session.get_credentials()
    frozen = found and found.get_frozen_credentials()
    if found is None or frozen is None or not frozen.access_key:
        raise CredentialsInvalid(f"credentialHelper ecr: {_NOBODY}")
    return f"the AWS key {frozen.access_key} (from {found.method})"


def _client(session: Session, host: str) -> Any:
    from botocore.config import Config

    name = host.partition(":")[0]
    public = name == ECR_PUBLIC
    fips = ".ecr-fips." in name or ".dkr-ecr-fips." in name
    config = Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"total_max_attempts": 3},
        use_fips_endpoint=True if fips else None,
    )
    region = _PUBLIC_REGION if public else ecr_region(host) or _own_region(session)
    return session.create_client("ecr-public" if public else "ecr", region_name=region, config=config)


def _own_region(session: Session) -> str | None:
    """For a registry behind another name. Amazon sets AWS_REGION in containers, which botocore ignores."""
    found: str | None = session.get_config_variable("region")
    return found or os.environ.get("AWS_REGION")


def _issued(answer: Any, who: str) -> Issued:
    """The public registry answers with one object, private ones with a list."""
    data = answer.get("authorizationData")
    data = data[0] if isinstance(data, list) and data else data
    try:
        pair = base64.b64decode(data["authorizationToken"], validate=True).decode()
        expires = data["expiresAt"].timestamp()
    except (TypeError, LookupError, AttributeError, ValueError, binascii.Error):
        raise CredentialsInvalid("credentialHelper ecr: Amazon's answer has no token") from None
    user, _, password = pair.partition(":")
    return Issued(
        Credential(user, password, source="credentialHelper ecr", identity=who),
        expires,
    )
