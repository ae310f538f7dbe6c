"""Who may reach the registry server, and what they may do there: zot's vocabulary, and a little more."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import Duration, PositiveDuration, ProfileModel, ProfilePath
from profiles.model.server.client_certificates import ClientCertificates
from profiles.model.server.oidc import OidcIssuer
from profiles.patterns.globs import Glob

if TYPE_CHECKING:
    from collections.abc import Mapping


class Tls(ProfileModel):
    """The server speaks https only. PEM files."""

    cert: ProfilePath = Field(
        description="Certificate, with the chain that leads to its CA.",
        examples=["/etc/mirrorflow/server.cert"],
    )
    key: ProfilePath = Field(
        description="Private key of the certificate, without a password.",
        examples=["/etc/mirrorflow/server.key"],
    )
    cacert: ProfilePath | None = Field(
        default=None,
        description="CA of clients: every client must then show a certificate that it signed, whatever "
        "else it can show.",
        examples=["/etc/mirrorflow/clients-ca.crt"],
    )


class Htpasswd(ProfileModel):
    """Users and their passwords."""

    path: ProfilePath = Field(
        description="Password file, made with `htpasswd -B` (bcrypt; nothing else is taken). Read again when "
        "it changes.",
        examples=["/etc/mirrorflow/htpasswd"],
    )


def _check_realm(text: str) -> str:
    if "://" in text:
        raise Refusal(
            "tokens of another server is not supported yet, and to ignore it would be wrong",
            "drop it: tokens are issued here; an OpenID provider is named in bearer.oidc",
        )
    return text


class Bearer(ProfileModel):
    """Tokens that the server issues itself; docker, containerd and podman ask for them unasked."""

    enable: bool = Field(
        default=True,
        description="false: passwords only. Docker without a login then cannot pull, whatever "
        "`anonymousPolicy` says.",
    )
    lifetime: PositiveDuration = Field(
        default=300.0,
        ge=60,
        description="How long a token holds. What `accessControl` takes away holds at once all the same.",
        examples=["5m"],
    )
    service: str = Field(
        default="mirrorflow",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$",
        description="Whom the tokens are for: the same in all servers of a registry, and another in every "
        "other registry that has the same key.",
        examples=["registry.example"],
    )
    oidc: tuple[OidcIssuer, ...] = Field(
        default=(),
        description="OpenID providers whose tokens clients may sign in with, as bearer token or as password.",
    )
    realm: Annotated[str, AfterValidator(_check_realm)] = Field(
        default="", description="Accepted for zot's sake, and without effect."
    )

    @field_validator("oidc", mode="before")
    @classmethod
    def _one_or_more(cls, found: object) -> object:
        """zot's first form was a single one."""
        return [found] if isinstance(found, dict) else found


class Auth(ProfileModel):
    """How clients sign in: one or more of `htpasswd`, `bearer.oidc` and `mtls`."""

    htpasswd: Htpasswd | None = Field(default=None, description="Users and their passwords.")
    mtls: ClientCertificates | None = Field(
        default=None,
        description="Users from the certificates of clients. Needs `trustedProxies`. Default: none.",
    )
    fail_delay: Duration = Field(
        default=2.0,
        description="How long the answer to a wrong password takes.",
        examples=["2s"],
    )
    bearer: Bearer = Field(default_factory=Bearer, description="Tokens that the server issues itself.")
    token_key_file: ProfilePath | None = Field(
        default=None,
        description="Private Ed25519 key that signs the tokens (`openssl genpkey -algorithm ed25519`), for "
        "servers that accept each other's tokens without sharing a store. Of several keys in the file the "
        "first signs, and all are accepted. Read again when it changes. Default: `access/token-key.pem` in "
        "`storage.rootDirectory`, made on first use.",
        examples=["/etc/mirrorflow/token-key.pem"],
    )

    @model_validator(mode="after")
    def _somebody_signs_in(self) -> Self:
        if self.htpasswd is None and not self.bearer.oidc and self.mtls is None:
            raise Refusal(
                "nobody can sign in",
                "add e.g. 'htpasswd: {path: ./htpasswd}', or issuers of tokens in bearer.oidc",
                involves=("htpasswd",),
                cause=("http", "auth", "bearer", "oidc"),
            )
        return self


class Action(StrEnum):
    """What can be permitted; zot's names."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


_ACTIONS = "read (pull, list), create (push what is not there), update (move a tag that is there), delete"


class AccessPolicy(ProfileModel):
    """What some users may do."""

    users: tuple[str, ...] = Field(
        default=(), description="Users of the password file and of tokens.", examples=[["alice", "ci"]]
    )
    groups: tuple[str, ...] = Field(
        default=(),
        description="Groups of `accessControl.groups`, and of tokens (`bearer.oidc`).",
        examples=[["developers"]],
    )
    actions: tuple[Action, ...] = Field(
        default=(), description=f"What they may do: {_ACTIONS}.", examples=[["read", "create"]]
    )


class RepositoryAccess(ProfileModel):
    """What holds in the repositories of one pattern. Of several patterns the longest counts, and no other."""

    policies: tuple[AccessPolicy, ...] = Field(
        default=(), description="What some users and groups may do; they add up."
    )
    default_policy: tuple[Action, ...] = Field(
        default=(), description="What every signed-in user may do.", examples=[["read"]]
    )
    anonymous_policy: tuple[Action, ...] = Field(
        default=(),
        description="What everyone may do, signed in or not.",
        examples=[["read"]],
    )
    push_to_mirrored: bool = Field(
        default=False,
        description="true: the actions create, update and delete hold also in repositories that a content "
        "rule fills. Without it only the mirror writes there, whatever a policy grants.",
    )


class Group(ProfileModel):
    """Users that policies name together."""

    users: tuple[str, ...] = Field(
        default=(), description="Users of the password file.", examples=[["alice", "bob"]]
    )


class Observers(ProfileModel):
    """Who may read `/metrics`, in addition to the admins."""

    users: tuple[str, ...] = Field(
        default=(), description="Users of the password file.", examples=[["prometheus"]]
    )
    anonymous_policy: tuple[Action, ...] = Field(
        default=(),
        description="`[read]`: everyone may, signed in or not.",
        examples=[["read"]],
    )


class AccessControl(ProfileModel):
    """Who may do what. Without it everyone reads (with `auth`: everyone who has signed in), nobody writes."""

    repositories: dict[str, RepositoryAccess] = Field(
        default_factory=dict,
        description="{pattern: {policies, defaultPolicy, anonymousPolicy}}; patterns as in "
        "`sync.registries[].content[].prefix`. What no pattern takes, only admins reach.",
    )
    admin_policy: AccessPolicy = Field(
        default_factory=AccessPolicy, description="What admins may do, in every repository."
    )
    groups: dict[str, Group] = Field(default_factory=dict, description="{name: {users}}.")
    metrics: Observers = Field(
        default_factory=Observers, description="Who may read `/metrics`, in addition to the admins."
    )

    @field_validator("repositories")
    @classmethod
    def _patterns(cls, repositories: Mapping[str, RepositoryAccess]) -> dict[str, RepositoryAccess]:
        refusals = []
        for pattern in repositories:
            try:
                Glob.parse(pattern)
            except Refusal as error:
                refusals.append(Refusal(error.found, error.write, at=(pattern,)))
        if refusals:
            raise Refusals(tuple(refusals))
        return dict(repositories)
