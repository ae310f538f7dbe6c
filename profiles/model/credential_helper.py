"""`credentialHelper`: an identity that a machine or a workload has, in place of a stored password."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import ProfileModel, ProfilePath

if TYPE_CHECKING:
    from collections.abc import Iterator

Helper = Literal["ecr", "gcp", "acr", "oauth2"]
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - RFC 8693, 2.1
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523, 2.1
CLIENT_CREDENTIALS: Final = "client_credentials"  # RFC 6749, 4.4

_OTHER_NAMES = {
    **dict.fromkeys(("aws", "ecr-login", "amazon"), "ecr"),
    **dict.fromkeys(("gcr", "gar", "google", "gcloud"), "gcp"),
    **dict.fromkeys(("azure", "acr-env", "microsoft"), "acr"),
    **dict.fromkeys(("oauth", "oidc"), "oauth2"),
}


@dataclass(frozen=True, slots=True)
class Library:
    """What a helper needs beside mirrorflow itself: a module, and the extra that installs it."""

    module: str
    extra: str

    @property
    def is_here(self) -> bool:
        try:
            return find_spec(self.module) is not None
        except ModuleNotFoundError:  # of a package that it is in
            return False


LIBRARIES: Final[dict[str, Library]] = {
    "ecr": Library("botocore", "aws"),
    "gcp": Library("google.auth", "gcp"),
    "acr": Library("azure.identity", "azure"),
}


def missing_library(helper: str) -> str:
    """What to say where the library of a helper is not installed; "" where nothing is missing."""
    library = LIBRARIES.get(helper)
    if library is None or library.is_here:
        return ""
    return f"it needs {library.module}: install mirrorflow[{library.extra}]"


def _helper(value: object) -> object:
    """zot's examples leave it empty where there is none."""
    if value in (None, ""):
        return None
    if isinstance(value, str) and value not in ("ecr", "gcp", "acr", "oauth2"):
        meant = _OTHER_NAMES.get(value.lower())
        raise Refusal(
            f"{value!r} is no credential helper",
            f"write {meant!r}"
            if meant
            else "write 'ecr', 'gcp', 'acr' or 'oauth2'; a docker-credential-* "
            "program belongs into ~/.docker/config.json (credHelpers)",
        )
    return value


CredentialHelper = Annotated[Helper | None, BeforeValidator(_helper)]


def _endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise Refusal("not the URL of a token endpoint", "write e.g. 'https://idp.example/token'")
    return text


def _absolute(text: str) -> str:
    if text and not urlsplit(text).scheme:
        raise Refusal(
            f"{text!r} is not a token type", "write a URI, e.g. 'urn:ietf:params:oauth:token-type:jwt'"
        )
    return text


class OAuth2Helper(ProfileModel):
    """A token endpoint that gives an access token for a signed statement of who the mirror is."""

    token_url: Annotated[str, AfterValidator(_endpoint)] = Field(
        alias="tokenURL", description="Token endpoint.", examples=["https://idp.example/token"]
    )
    assertion_file: ProfilePath | None = Field(
        default=None,
        description="File with a JWT that a platform issues and renews, such as a token that Kubernetes "
        "projects. Read again for every request. One of `assertionFile` and `signingFile` is needed.",
        examples=["/var/run/secrets/tokens/registry"],
    )
    signing_file: ProfilePath | None = Field(
        default=None,
        description="JSON file with a private key and claims, from which a JWT is signed for every request: "
        "{`privateKeyFile`, `algorithm`, `keyId`, `issuer`, `subject`, `audience`}.",
        examples=["/etc/mirrorflow/oauth2-signing.json"],
    )
    grant_type: Literal[
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    ] = Field(default="client_credentials", description="How the JWT is presented (RFC 7523, RFC 8693).")
    client_id: str = Field(default="", description="Sent as `client_id`.", examples=["mirror"])
    client_secret_file: ProfilePath | None = Field(
        default=None,
        description="File with a secret that is sent as `client_secret`.",
        examples=["/etc/mirrorflow/client-secret"],
    )
    scopes: tuple[str, ...] = Field(default=(), description="Sent as `scope`.", examples=[["registry.read"]])
    username: str = Field(
        default="<token>",
        min_length=1,
        description="User that the registry knows the token by; the token is the password.",
        examples=["oauth2accesstoken"],
    )
    audience: str = Field(
        default="",
        description="Of a token exchange, where it is required: whom the new token is for.",
        examples=["registry.example"],
    )
    subject_token_type: Annotated[str, AfterValidator(_absolute)] = Field(
        default="", description="Of a token exchange: type of the JWT. Default: a JWT's."
    )
    requested_token_type: Annotated[str, AfterValidator(_absolute)] = Field(
        default="", description="Of a token exchange: type of the new token. Default: an access token's."
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        refusals = tuple(_contradictions(self))
        if refusals:
            raise Refusals(refusals)
        return self


def _contradictions(helper: OAuth2Helper) -> Iterator[Refusal]:
    if (helper.assertion_file is None) == (helper.signing_file is None):
        yield Refusal("one of assertionFile and signingFile is needed, and not both", "write one of the two")
    exchange = helper.grant_type == TOKEN_EXCHANGE
    if exchange and not helper.audience:
        yield Refusal("a token exchange needs an audience", "add 'audience'", at=("grantType",))
    for key in ("audience", "subject_token_type", "requested_token_type"):
        if not exchange and getattr(helper, key):
            yield Refusal(
                "is part of a token exchange, which grantType is not",
                f"drop it, or write 'grantType: {TOKEN_EXCHANGE}'",
                at=(OAuth2Helper.model_fields[key].alias or key,),
            )


class Identified(Protocol):
    """A registry entry or a destination: its part about who the mirror is there."""

    @property
    def credential_helper(self) -> Helper | None: ...
    @property
    def oauth2_credential_helper(self) -> OAuth2Helper | None: ...


def helper_contradictions(settings: Identified) -> Iterator[Refusal]:
    """Between the keys `credentialHelper` and `oauth2CredentialHelper`."""
    wanted, given = settings.credential_helper == "oauth2", settings.oauth2_credential_helper is not None
    if wanted and not given:
        yield Refusal(
            "oauth2 does not say which token endpoint",
            "add 'oauth2CredentialHelper: {tokenURL: …, assertionFile: …}'",
            at=("credentialHelper",),
            involves=("oauth2CredentialHelper",),
        )
    if given and not wanted:
        yield Refusal(
            "has no effect without the helper",
            "add 'credentialHelper: oauth2', or drop it",
            at=("oauth2CredentialHelper",),
            involves=("credentialHelper",),
        )
