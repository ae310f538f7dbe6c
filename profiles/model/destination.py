"""Another registry that images are written to, beside the store or in its place."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.cache import Size
from profiles.model.credential_helper import CredentialHelper, OAuth2Helper, helper_contradictions
from profiles.model.fields import PositiveDuration, ProfileModel, ProfilePath, TokenService, Url
from profiles.model.registry_entry import Rate
from profiles.values.cloud_registries import ecr_region
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.profile import Profile
    from profiles.values.upstream_url import UpstreamUrl

STORE: Final = "store"
"""What `to` calls the store."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELDS = ("repository", "flat", "base", "entry")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name == STORE:
        raise Refusal(
            f"{name!r} cannot name a destination",
            "write up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit; "
            f"{STORE!r} is the store itself",
        )
    return name


def _check_prefix(text: str) -> str:
    prefix = text.strip("/")
    if prefix:
        _check_repository(prefix, text)
    return prefix


def _check_template(text: str) -> str:
    for field in _FIELD.findall(text):
        if field not in _FIELDS:
            raise Refusal(f"{{{field}}} is no field", f"write {', '.join(f'{{{each}}}' for each in _FIELDS)}")
    if not {"repository", "flat", "base"} & set(_FIELD.findall(text)):
        raise Refusal(
            f"{text!r} gives every repository one name", "write e.g. 'team/{repository}' or 'team/{flat}'"
        )
    _check_repository(_filled(text, "library/alpine", "entry"), text)
    return text.strip("/")


def _check_repository(name: str, text: str) -> None:
    try:
        RepositoryName(name.strip("/"))
    except InvalidName as error:
        raise Refusal(
            f"{text!r} makes no repository names", "write lower-case path parts, e.g. 'team/mirror'"
        ) from error


def _filled(template: str, repository: str, entry: str) -> str:
    values = {
        "repository": repository,
        "flat": repository.replace("/", "-"),
        "base": repository.rpartition("/")[2],
        "entry": re.sub(r"[^a-z0-9]+", "-", entry.lower()).strip("-") or "entry",
    }
    return _FIELD.sub(lambda match: values[match[1]], template)


class CreateRepositories(ProfileModel):
    """How repositories are made in a registry that does not make them by itself when something is pushed."""

    list_for = "api"

    api: Literal["ecr"] = Field(
        default="ecr",
        description="Whose API makes them: `ecr` is Amazon's (`CreateRepository`). It needs the extra "
        "`mirrorflow[aws]`, and takes credentials where Amazon's tools look for them.",
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z]{2}(-[a-z]+)+-\d$",
        description="Region of the registry. Default: the one in its host name.",
        examples=["eu-central-1"],
    )
    endpoint: Url | None = Field(
        default=None,
        description="Address of the API. Default: the public one of the region.",
        examples=["https://vpce-0123.api.ecr.eu-central-1.vpce.amazonaws.com"],
    )
    immutable_tags: bool = Field(
        default=False, description="Whether the tags of a repository that is made may never move."
    )


class DestinationEntry(ProfileModel):
    """A registry that images are written to. A registry entry names it in `to`."""

    name: Annotated[str, AfterValidator(_check_name)] = Field(
        description="What `to`, commands and reports call it.", examples=["ecr"]
    )
    url: Url = Field(
        description="Where the registry is. Without `http://` or `https://` it is https. A path stands "
        "before every repository name.",
        examples=["https://harbor.example/mirror"],
    )
    prefix: Annotated[str, AfterValidator(_check_prefix)] = Field(
        default="",
        description="Stands before the name that a repository has here. Default: nothing.",
        examples=["team/mirror"],
    )
    template: Annotated[str, AfterValidator(_check_template)] | None = Field(
        default=None,
        description="The name of a repository there, in place of `prefix`: `{repository}` is its name here, "
        "`{flat}` the same with `-` for `/`, `{base}` its last part, `{entry}` the name of the registry "
        "entry.",
        examples=["myteam/{flat}"],
    )
    force: bool = Field(
        default=False,
        description="Whether a tag is overwritten that somebody else has set or moved there. Default: it "
        "stays as it is, and the report says so.",
    )
    trust_destination: bool = Field(
        default=False,
        description="Whether a tag that this mirror has written counts as being there, without asking. "
        "Default: each run asks for each tag with one HEAD.",
    )
    create_repositories: CreateRepositories | None = Field(
        default=None,
        description="Make repositories that are missing there, by the registry's own API. Default: the "
        "registry makes them by itself.",
        examples=[{"api": "ecr"}],
    )
    chunk_size: Size | None = Field(
        default=None,
        description="Most bytes of a blob in one request (a number, or `64MB`), for a proxy that limits "
        "requests. Default: a blob is one request, and goes on after a cut where the registry is.",
        examples=["64MB"],
    )
    tls_verify: bool = Field(default=True, description="Whether to verify the certificate of an https URL.")
    cert_dir: ProfilePath | None = Field(
        default=None,
        description="Folder with `*.crt`, `*.cert` and `*.key`, as of a registry entry.",
        examples=["/etc/mirrorflow/certs"],
    )
    token_services: tuple[TokenService, ...] = Field(
        default=(),
        description="Token services under another domain than the registry that may see its credentials. "
        "Default: none.",
        examples=[["https://auth.other.example"]],
    )
    credential_helper: CredentialHelper = Field(
        default=None,
        description="Log in as the machine or workload that the mirror runs on, as of a registry entry.",
        examples=["ecr"],
    )
    oauth2_credential_helper: OAuth2Helper | None = Field(
        default=None,
        alias="oauth2CredentialHelper",
        description="Where the `oauth2` helper gets its tokens.",
    )
    connect_timeout: PositiveDuration = Field(
        default=5.0,
        description="Longest duration to establish a connection (seconds, or `5s`).",
        examples=["5s"],
    )
    response_header_timeout: PositiveDuration = Field(
        default=120.0,
        description="Longest wait for the head of a response (seconds, or `2m`). Registries over object "
        "storage answer the last byte of a large blob only when they have moved it.",
        examples=["2m"],
    )
    read_timeout: PositiveDuration = Field(
        default=30.0,
        description="Longest wait within a body without a single byte (seconds, or `30s`). On average over "
        "this long, at least 1,024 bytes a second have to come.",
        examples=["30s"],
    )
    req_concurrent: int = Field(
        default=8, gt=0, description="Requests in flight at once to this registry (a count)."
    )
    req_per_sec: Rate | None = Field(
        default=None,
        description="Requests per second to this registry, on average. Default: no limit.",
        examples=[10],
    )
    max_idle_conns_per_host: int | None = Field(
        default=None,
        gt=0,
        description="Idle connections kept open to it (a count). Default: `reqConcurrent`.",
        examples=[8],
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        refusals = list(helper_contradictions(self))
        if self.url.kind != "registry":
            refusals.append(
                Refusal("a Helm repository over HTTP takes no pushes", "write a registry's", at=("url",))
            )
        if self.prefix and self.template is not None:
            refusals.append(
                Refusal("prefix and template both give names", "drop one of the two", at=("prefix",))
            )
        if self.create_repositories is not None and self.region is None:
            refusals.append(
                Refusal(
                    f"{self.url.host} does not tell its region",
                    "add 'region', e.g. 'eu-central-1'",
                    at=("createRepositories",),
                )
            )
        if refusals:
            raise Refusals(tuple(refusals))
        return self

    @property
    def urls(self) -> tuple[UpstreamUrl, ...]:
        """As of a registry entry: the client of a registry takes several."""
        return (self.url,)

    @property
    def region(self) -> str | None:
        """Of `createRepositories`: the one that is written, or that of the host."""
        written = self.create_repositories.region if self.create_repositories else None
        return written or ecr_region(self.url.host)

    @property
    def ledger(self) -> str:
        """The folder of what is remembered of it: another one for another registry, or other names there."""
        said = "\n".join((str(self.url), self.prefix, self.template or ""))
        return f"{self.name}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"

    def repository(self, local: str, entry: str) -> RepositoryName:
        """What the repository `local` is called there, without the path of the url. Raises `InvalidName`."""
        if self.template is not None:
            return RepositoryName(_filled(self.template, local, entry))
        return RepositoryName(f"{self.prefix}/{local}" if self.prefix else local)


def contradictions(profile: Profile) -> Iterator[Refusal]:
    """Between destinations and the registry entries that name them; paths begin at the top."""
    names: set[str] = set()
    for number, each in enumerate(profile.destinations):
        if each.name in names:
            yield Refusal(
                f"{each.name!r} names an earlier destination too",
                "give each destination a name of its own",
                at=("destinations", number, "name"),
            )
        names.add(each.name)
    for number, entry in enumerate(profile.sync.registries):
        at = ("sync", "registries", number, "to")
        for wanted in entry.to:
            if wanted not in {*names, STORE}:
                yield Refusal(
                    f"no destination is called {wanted!r}",
                    f"write one of {', '.join((STORE, *sorted(names)))}",
                    at=at,
                    involves=("destinations",),
                )
        if len(set(entry.to)) < len(entry.to):
            yield Refusal("a destination is named twice", "write each once", at=at)
        if entry.on_demand and STORE not in entry.to:
            yield Refusal(
                "what clients ask for is served from the store",
                f"add {STORE!r} to it, or drop onDemand",
                at=at,
                involves=("onDemand",),
            )
