"""How the registry server listens, what uploads may use, and what is logged."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import PositiveDuration, ProfileModel, ProfilePath
from profiles.model.server.access import AccessControl, Auth, Tls
from profiles.model.server.on_miss import OnMiss
from registry_server.http.forwarded import NetworkInvalid, parse_network

_MIB = 1024 * 1024


class HttpLimits(ProfileModel):
    """Limits for clients that push. Manifests have 4 MiB: clients accept no larger ones."""

    blob_bytes: int = Field(
        default=0,
        ge=0,
        description="Most bytes of one blob; 0: as many as there is room for.",
        examples=[10**10],
    )
    spare_bytes: int = Field(
        default=256 * _MIB,
        ge=0,
        description="Bytes of the disk that no upload may take: deleting needs room too.",
        examples=[10**9],
    )
    body_timeout: PositiveDuration = Field(
        default=60.0, description="How long no byte of a body may come.", examples=["1m"]
    )
    sessions: int = Field(
        default=1000, ge=1, description="Uploads that are open at once, in one storage root."
    )
    client_sessions: int = Field(
        default=200, ge=1, description="The same for one user, or for one address without a login."
    )
    session_timeout: PositiveDuration = Field(
        default=86400.0,
        description="When an abandoned upload is ended.",
        examples=["12h"],
    )
    empty_session_timeout: PositiveDuration = Field(
        default=3600.0, description="The same for one without a byte.", examples=["1h"]
    )
    require_blobs: bool = Field(
        default=False, description="true: refuse a pushed image as long as its blobs are not all there."
    )


_ORIGIN = re.compile(r"https?://[A-Za-z0-9_.\-\[\]:]+", re.ASCII)

_LOCATION = re.compile(r"(?:/[A-Za-z0-9_-]+)+/?", re.ASCII)

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?\.?", re.ASCII)


def _check_origin(text: str) -> str:
    if text and not _ORIGIN.fullmatch(text.rstrip("/")):
        raise Refusal(f"{text!r} is not the URL of a host", "write e.g. 'https://registry.example'")
    return text.rstrip("/")


def _check_network(text: str) -> str:
    try:
        return str(parse_network(text))
    except NetworkInvalid as error:
        raise Refusal(str(error), "write e.g. '10.0.0.0/8' or '192.0.2.7'") from error


def _check_location(text: str) -> str:
    if text and not _LOCATION.fullmatch(text):
        raise Refusal(f"{text!r} is not the name of a location", "write e.g. '/mirror-files'")
    return text.rstrip("/")


class Http(ProfileModel):
    """Where the registry server listens, and who may do what there (docs/access.md)."""

    address: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; `0.0.0.0` means all of IPv4.",
        examples=["0.0.0.0"],  # noqa: S104 - a text in the documentation
    )
    port: int = Field(
        default=8080,
        ge=0,
        le=65535,
        description="TCP port to listen on; 0: any that is free.",
        examples=[5000],
    )
    external_url: Annotated[str, AfterValidator(_check_origin)] = Field(
        default="",
        description="How clients reach the server when a proxy stands in front that changes scheme or host. "
        "Default: as the client says.",
        examples=["https://registry.example"],
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_check_network)], ...] = Field(
        default=(),
        description="Addresses and networks of load balancers in front: the client's address is then what "
        "they add to `X-Forwarded-For`, for limits and the access log. Default: none is believed.",
        examples=[["10.0.0.0/8", "192.0.2.7"]],
    )
    accel_redirect: Annotated[str, AfterValidator(_check_location)] = Field(
        default="",
        description="The `internal` location of an nginx in `trustedProxies` that sends stored blobs from "
        "the disk by itself (`X-Accel-Redirect`, [scaling.md](scaling.md#nginx-sends-the-blobs)). "
        "Default: the registry server sends all bytes.",
        examples=["/mirror-files"],
    )
    header_timeout: PositiveDuration = Field(
        default=30.0,
        description="How long a client may take for the head of a request, and keep a connection open "
        "without one.",
        examples=["30s"],
    )
    on_miss: OnMiss = Field(
        default_factory=OnMiss, description="Where misses of clients are sent (onDemand)."
    )
    vhosts: dict[str, str] = Field(
        default_factory=dict,
        description="Host names that stand for one upstream registry each, whose own repository names are "
        "used there: {host: name of the registry entry}. Default: none.",
        examples=[{"docker.mirror.example": "docker-hub"}],
    )
    tls: Tls | None = Field(default=None, description="Serve https. Default: http.")
    auth: Auth | None = Field(default=None, description="How clients sign in. Default: no client can.")
    access_control: AccessControl | None = Field(
        default=None,
        description="Who may do what. Default: all clients read (with `auth`: signed-in users), none writes.",
    )
    limits: HttpLimits = Field(default_factory=HttpLimits, description="Limits for clients that push.")

    @model_validator(mode="after")
    def _certificates_come_from_somewhere(self) -> Self:
        if self.auth is not None and self.auth.mtls is not None and not self.trusted_proxies:
            raise Refusal(
                "the server's own TLS does not tell whose certificate it was",
                "let a proxy check certificates and pass them on in Client-Cert, and add its address to "
                "http.trustedProxies (docs/access.md)",
                at=("auth", "mtls"),
                involves=("trustedProxies",),
            )
        return self

    @model_validator(mode="after")
    def _somebody_may_be_redirected(self) -> Self:
        if self.accel_redirect and not self.trusted_proxies:
            raise Refusal(
                "no client but a proxy can follow X-Accel-Redirect",
                "add the address of nginx to http.trustedProxies",
                at=("accelRedirect",),
                involves=("trustedProxies",),
            )
        return self

    @field_validator("vhosts")
    @classmethod
    def _hosts(cls, vhosts: dict[str, str]) -> dict[str, str]:
        refusals = tuple(
            Refusal(
                f"{host!r} is not a host name",
                "write e.g. 'docker.mirror.example', without a port",
                at=(host,),
            )
            for host in vhosts
            if not _HOST.fullmatch(host.lower())
        )
        if refusals:
            raise Refusals(refusals)
        return {host.lower().rstrip("."): entry for host, entry in vhosts.items()}


class LogLevel(StrEnum):
    """How much is logged; zot's names."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    FATAL = "fatal"
    PANIC = "panic"


class Log(ProfileModel):
    """What is logged."""

    level: LogLevel = Field(
        default=LogLevel.INFO,
        description="Log messages of this level and above: trace, debug, info, warn, error, fatal or panic.",
        examples=["debug"],
    )
    access: ProfilePath | None = Field(
        default=None,
        description="File to which the registry server appends a line of JSON for each request; "
        "`/dev/stdout` for standard output. Default: none.",
        examples=["/var/log/mirrorflow/access.log"],
    )
    audit: ProfilePath | None = Field(
        default=None,
        description="File to which a line of JSON is appended for each push, deletion and refused attempt of "
        "a client, each verdict of a policy, and each tag that the mirror sets or removes (docs/audit.md); "
        "`/dev/stdout` for standard output. Default: none.",
        examples=["/var/log/mirrorflow/audit.log"],
    )
    audit_pulls: bool = Field(default=False, description="true: the audit log has a line for each pull, too.")


class Ui(ProfileModel):
    """The page that the registry server shows to browsers (docs/page.md)."""

    enable: bool = Field(
        default=True,
        description="Serve the page at `/`. It shows only what its visitor may pull.",
    )
