"""One upstream registry of a profile."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.cache import Cache, Size
from profiles.model.content_rule import ContentRule
from profiles.model.credential_helper import CredentialHelper, OAuth2Helper
from profiles.model.deployment import DeploymentSettings
from profiles.model.entry_consistency import contradictions
from profiles.model.fields import (
    Cron,
    Duration,
    PositiveDuration,
    ProfileModel,
    ProfilePath,
    TimeZone,
    TokenService,
    Url,
)
from profiles.model.platforms import PlatformChoice
from profiles.model.referrers import Referrers
from profiles.values.poll_timing import PollInterval, PollSchedule
from profiles.values.shard import MOST_SHARDS

if TYPE_CHECKING:
    from profiles.values.poll_timing import PollTiming


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _check_name(name: str) -> str:
    if name and not _NAME.fullmatch(name):
        raise Refusal(
            f"{name!r} cannot name a registry entry",
            "write up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return name


def _positive(value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        raise Refusal(f"{value:g} is not a finite number greater than 0", "write e.g. 10, or drop the key")
    return value


Rate = Annotated[float, AfterValidator(_positive)]


class Objective(ProfileModel):
    """What a registry entry is judged by, beside the outcome of its last run."""

    max_lag: PositiveDuration | None = Field(
        default=None,
        description="Longest time since each image of the entry was known to be what the upstream has "
        "(seconds, or `24h`). Default: no limit.",
        examples=["24h"],
    )


class RegistryEntry(ProfileModel):
    """One upstream registry: how to reach it, when to look, what to take."""

    name: Annotated[str, AfterValidator(_check_name)] = Field(
        default="",
        description="What commands, reports and the Prefect deployment call this entry. Default: made from "
        "the first URL (`registry1-5000`, `docker.io-library`), with `-2` and so on where it is taken.",
        examples=["docker-hub"],
    )
    urls: tuple[Url, ...] = Field(
        min_length=1,
        description="Where the registry is; further URLs are tried in the listed order when one fails. "
        "Without `http://` or `https://` it is https. A path stands before every repository name "
        "(`https://docker.io/library`).",
        examples=[["https://registry1:5000"]],
    )
    on_demand: bool = Field(
        default=False,
        description="Fetch what is not stored when a client requests it. Content rules, tags included, "
        "say what may be fetched; without any, everything.",
    )
    poll_interval: Duration | None = Field(
        default=None,
        description="Duration between two looks at the upstream registry (seconds, or `6h`). Needs "
        "`content`. Default, and 0: never by itself.",
        examples=["6h"],
    )
    schedule: Cron | None = Field(
        default=None,
        description="When to look at the upstream registry, in place of `pollInterval`: minute, hour, day of "
        "month, month, day of week (crontab). Needs `content`. Default: `pollInterval` says.",
        examples=["30 3 * * *"],
    )
    time_zone: TimeZone | None = Field(
        default=None, description="Time zone of `schedule`. Default: UTC.", examples=["Europe/Berlin"]
    )
    objective: Objective = Field(
        default_factory=Objective, description="How fresh the images of this entry have to be."
    )
    deployment: DeploymentSettings = Field(
        default_factory=DeploymentSettings,
        description="Tags, job variables and work queue of the Prefect deployment of this entry.",
    )
    shards: int = Field(
        default=1,
        ge=1,
        le=MOST_SHARDS,
        description="How many parts the repositories of this entry are divided into. Each is a Prefect "
        "deployment of its own, so that several workers fill one store together. They share the limits of "
        "the entry (`reqConcurrent`, `reqPerSec`, `bytesPerSec`).",
        examples=[4],
    )
    tls_verify: bool = Field(default=True, description="Whether to verify the certificate of https URLs.")
    cert_dir: ProfilePath | None = Field(
        default=None,
        description="Folder with `*.crt` (CA certificates), `*.cert` and `*.key` (client certificate and its "
        "key). Relative to the profile. Default: where containers and docker keep them (`certs.d`).",
        examples=["/etc/mirrorflow/certs"],
    )
    token_services: tuple[TokenService, ...] = Field(
        default=(),
        description="Token services under another domain than the registry that may see its credentials "
        "(scheme and host, with a port where there is one). Default: none; the registry's own domain may.",
        examples=[["https://auth.other.example"]],
    )
    max_retries: int = Field(
        default=0,
        ge=0,
        description="How often a step that failed is tried again (a count). Needs `retryDelay`.",
    )
    retry_delay: Duration | None = Field(
        default=None,
        description="Duration between two tries (seconds, or `5m`). Required with `maxRetries`.",
        examples=["5m"],
    )
    max_retry_delay: Duration | None = Field(
        default=None,
        description="If longer than `retryDelay`: the delay doubles with each try up to this duration "
        "(seconds, or `30m`). Default: the delay stays the same.",
        examples=["30m"],
    )
    only_signed: bool = Field(
        default=False,
        description="Take only images that have a signature (cosign or notation): whoever made it, it is "
        "not verified. What verifies is `verify`.",
    )
    preserve_digest: bool = Field(
        default=True,
        description="Accepted for zot's sake, and true whatever it says: digests and Docker's media types "
        "are preserved, unless a content rule says `convert`.",
    )
    sync_legacy_cosign_tags: bool = Field(
        default=True,
        description="Whether `sha256-<hex>.sig`, `.att` and `.sbom` tags accompany the image that they "
        "belong to.",
    )
    min_age: PositiveDuration | None = Field(
        default=None,
        description="How long a tag has to name a digest, since this mirror first saw that, before the "
        "digest is admitted, where a content rule does not say. Default: not at all.",
        examples=["7d"],
    )
    referrers: Referrers = Field(
        default_factory=Referrers,
        description="Which referrers (signatures, attestations, SBOMs, …) follow an image, where a content "
        "rule does not say. Default: all.",
    )
    credential_helper: CredentialHelper = Field(
        default=None,
        description="Log in as the machine or workload that the mirror runs on, in place of credentialsFile: "
        "`ecr` (Amazon), `gcp` (Google), `acr` (Microsoft), `oauth2`. See "
        "[upstreams.md](upstreams.md#logging-in-as-the-machine).",
        examples=["ecr"],
    )
    oauth2_credential_helper: OAuth2Helper | None = Field(
        default=None,
        alias="oauth2CredentialHelper",
        description="Where the `oauth2` helper gets its tokens.",
    )
    sync_timeout: Duration = Field(
        default=3 * 3600.0,
        description="Longest total duration of one operation on demand (seconds, or `3h`).",
        examples=["3h"],
    )
    connect_timeout: PositiveDuration = Field(
        default=5.0,
        description="Longest duration to establish a connection, TLS included (seconds, or `5s`), before the "
        "next URL is tried.",
        examples=["5s"],
    )
    response_header_timeout: PositiveDuration = Field(
        default=30.0,
        description="Longest wait for the head of a response (seconds, or `30s`).",
        examples=["30s"],
    )
    read_timeout: PositiveDuration = Field(
        default=30.0,
        description="Longest wait within a body without a single byte (seconds, or `30s`). On average over "
        "this long, at least 1,024 bytes a second have to come. There is no limit to the whole of a body.",
        examples=["30s"],
    )
    manifest_check_interval: Duration = Field(
        default=0.0,
        description="How long a tag counts as fresh after upstream was asked for it (seconds, or `5m`); "
        "until then it is served on demand without asking again. Needs `onDemand`. 0: ask each time.",
        examples=["5m"],
    )
    req_concurrent: int = Field(
        default=8, gt=0, description="Requests in flight at once to one upstream host (a count)."
    )
    req_per_sec: Rate | None = Field(
        default=None,
        description="Requests per second to one upstream host, on average. Default: no limit.",
        examples=[10],
    )
    bytes_per_sec: Size | None = Field(
        default=None,
        description="Most bytes of blobs a second from this registry (a number, or `10MB`), together for all "
        "transfers of a process. Default: no limit.",
        examples=["10MB"],
    )
    disable_http2: bool = Field(
        default=False,
        alias="disableHTTP2",
        description="Accepted for zot's sake: requests are HTTP/1.1 over several connections, always.",
    )
    max_idle_conns_per_host: int | None = Field(
        default=None,
        gt=0,
        description="Idle connections kept open to one upstream host (a count). Default: `reqConcurrent`.",
        examples=[8],
    )
    platforms: PlatformChoice | None = Field(
        default=None,
        description="Platforms to copy of multi-platform images: a list of `os/architecture[/variant]`, or a "
        "section. Default: all.",
        examples=[["linux/amd64", "linux/arm64"]],
    )
    stream: bool = Field(
        default=False,
        description="Accepted for zot's sake: layers are always handed out on demand while they arrive.",
    )
    max_concurrent_streams: int | None = Field(
        default=None,
        gt=0,
        description="Blobs that are streamed at once (a count). Default: no limit of its own.",
        examples=[32],
    )
    on_demand_platforms: Literal["asked", "all"] = Field(
        default="asked",
        description="Of a multi-platform image on demand: `asked` fetches the platforms that clients ask "
        "for, `all` fetches all that `platforms` allows, after the first one.",
    )
    on_demand_in_background: bool = Field(
        default=False,
        description="Answer a miss with 404 at once and fetch the image in the background, instead of "
        "letting the client wait. Needs `onDemand`.",
    )
    tag_listing: Literal["local", "upstream", "merged"] = Field(
        default="local",
        description="What the tag list of a repository contains on demand: `local` what is stored, "
        "`upstream` what upstream has and the rules' tag filters take (so that Renovate and Flux see new "
        "versions), `merged` both. Needs `onDemand`.",
        examples=["merged"],
    )
    cache: Cache | None = Field(
        default=None,
        description="How much of what came on demand is kept. Needs `onDemand`. Default: all of it.",
    )
    to: tuple[str, ...] = Field(
        default=("store",),
        min_length=1,
        description="Where the images go: `store`, and the names of `destinations`. One download feeds all "
        "of them.",
        examples=[["store", "ecr"]],
    )
    content: tuple[ContentRule, ...] = Field(
        default=(),
        description="Which repositories and tags to take, and where they land. Every rule that matches "
        "applies. Without any rule nothing is polled, and everything is taken on demand.",
    )

    @property
    def is_synced(self) -> bool:
        """Whether a run mirrors all of it without being told: one that is only `onDemand` is for clients."""
        return bool(self.content) and (self.timing is not None or not self.on_demand)

    @field_validator("poll_interval")
    @classmethod
    def _zero_is_never(cls, seconds: float | None) -> float | None:
        return seconds or None

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        refusals = tuple(contradictions(self))
        if refusals:
            raise Refusals(refusals)
        return self

    @property
    def timing(self) -> PollTiming | None:
        """When it is polled. zot: without content rules it is not."""
        if not self.content:
            return None
        if self.schedule is not None:
            return PollSchedule(self.schedule, self.time_zone or "UTC")
        return PollInterval(self.poll_interval) if self.poll_interval else None
