"""Tokens of other issuers that clients may sign in with, in zot's vocabulary (`http.auth.bearer.oidc`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel, ProfilePath
from registry_server.http.auth.oidc.claims import ExpressionInvalid, check_expression

if TYPE_CHECKING:
    from collections.abc import Iterator


def _issuer(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Refusal("not the URL of an issuer", "write e.g. 'https://token.actions.githubusercontent.com'")
    if "@" in parts.netloc:
        raise Refusal("the URL holds a user name or password", "write it without")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise Refusal(
            "keys that come without TLS may be anybody's",
            "write 'https://', and certificateAuthorityFile if its CA is your own",
        )
    return text


def _expression(text: str) -> str:
    try:
        check_expression(text)
    except ExpressionInvalid as error:
        raise Refusal(str(error), "write CEL over `claims` and `vars`, e.g. 'claims.sub'") from error
    return text


Expression = Annotated[str, AfterValidator(_expression)]


class ClaimVariable(ProfileModel):
    """A value that other expressions use as `vars.NAME`."""

    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="What it is called.", examples=["owner"]
    )
    expression: Expression = Field(
        description="CEL over `claims` and earlier `vars`.", examples=["claims.repository_owner"]
    )


class ClaimValidation(ProfileModel):
    """A condition that a token has to meet."""

    expression: Expression = Field(
        description="CEL that has to be true.", examples=["vars.owner == 'my-org'"]
    )
    message: str = Field(
        default="the token does not meet a condition of this registry",
        description="What a client is told otherwise.",
        examples=["only my-org may"],
    )


class ClaimMapping(ProfileModel):
    """From the claims of a token to a user and groups, in CEL."""

    variables: tuple[ClaimVariable, ...] = Field(default=(), description="Named values, in order.")
    validations: tuple[ClaimValidation, ...] = Field(default=(), description="Conditions, in order.")
    username: Expression = Field(
        default="claims.iss + '/' + claims.sub",
        description="The user that policies name. Users of the password file have names too: take care that "
        "a token cannot name one of them.",
        examples=["claims.email"],
    )
    groups: Expression | None = Field(
        default=None,
        description="The groups that policies name, a list of texts; those of `accessControl.groups` are "
        "added. Default: none.",
        examples=["claims.groups"],
    )


class OidcIssuer(ProfileModel):
    """An OpenID provider whose tokens are accepted, as bearer token or as password."""

    issuer: Annotated[str, AfterValidator(_issuer)] = Field(
        description="Its URL, exactly as `iss` of its tokens. Its keys are found by "
        "`/.well-known/openid-configuration` there.",
        examples=["https://token.actions.githubusercontent.com"],
    )
    audiences: tuple[str, ...] = Field(
        min_length=1,
        description="What `aud` of a token has to name one of. Nothing else may accept tokens for it.",
        examples=[["https://registry.example"]],
    )
    claim_mapping: ClaimMapping = Field(
        default_factory=ClaimMapping, description="From claims to a user and groups."
    )
    certificate_authority: str | None = Field(
        default=None, description="CA of the issuer's certificate, in PEM. Default: those of the system."
    )
    certificate_authority_file: ProfilePath | None = Field(
        default=None,
        description="File with it instead.",
        examples=["/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"],
    )

    @model_validator(mode="after")
    def _one_authority(self) -> Self:
        for refusal in _contradictions(self):
            raise refusal
        return self


def _contradictions(issuer: OidcIssuer) -> Iterator[Refusal]:
    if issuer.certificate_authority and issuer.certificate_authority_file:
        yield Refusal(
            "certificateAuthority and certificateAuthorityFile both give a CA",
            "drop one of the two",
            at=("certificateAuthority",),
            involves=("certificateAuthorityFile",),
        )
