"""One content rule: which repositories and tags to take, where they land, and when they are pruned."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import Image, PositiveDuration, ProfileModel, RepositoryGlob, Select, TagRegex
from profiles.model.platforms import PlatformChoice
from profiles.model.referrers import Referrers
from profiles.model.tag_rule import TagRule
from profiles.patterns.globs import Glob
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Iterator

_PERCENT: Final = re.compile(r"\s*(\d{1,3}(?:\.\d{1,3})?)\s*%\s*", re.ASCII)


def _parse_share(value: object) -> float:
    """From 0 to 1."""
    if isinstance(value, float) and 0 < value <= 1:
        return value
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 0 < float(found[1]) <= 100:
        raise Refusal(f"{str(value)[:60]!r} is not a share", "write a percentage, e.g. '10%'")
    return float(found[1]) / 100


Share = Annotated[
    float,
    PlainValidator(_parse_share),
    PlainSerializer(lambda share: f"{share * 100:g}%", when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\s*[0-9]{1,3}(\.[0-9]+)?\s*%\s*$", "examples": ["10%"]}),
]


class Prune(ProfileModel):
    """Remove tags that the upstream has deleted. `mirrorflow store undelete` brings them back for a while."""

    after: PositiveDuration = Field(
        description="How long every poll must find the tag missing before it is removed (seconds, or `30d`).",
        examples=["30d"],
    )
    max_share: Share = Field(
        default=0.1,
        description="The largest part of the rule's stored tags that one run may remove. Beyond it the run "
        "removes none of them and notes it; `mirrorflow store prune --yes` removes them.",
        examples=["10%"],
    )
    keep: tuple[TagRegex, ...] = Field(
        default=(),
        description="Regular expressions; tags that match one of them as a whole are never removed. "
        "Default: none.",
        examples=[["v1\\..*"]],
    )


_ANY = Glob.parse("**")
_UPPER = re.compile(r"[A-Z]")


def _check_destination(text: str) -> str:
    try:
        _ = RepositoryName(text.strip("/")) if text.strip("/") else ""
    except InvalidName as error:
        advice = f"write {text.lower()!r}" if _UPPER.search(text) else "write e.g. '/mirror/library'"
        raise Refusal(f"{text!r} cannot begin a repository name", advice) from error
    return text


class ContentRule(ProfileModel):
    """What to take from an upstream registry, and under which name. All rules that match apply."""

    prefix: RepositoryGlob = Field(
        default=_ANY,
        description="Upstream repositories to take: a name, or a pattern in which `*`, `?` and `[a-z]` stay "
        "inside one path segment, `{a,b}` is a choice and `**` stands for any number of segments. A leading "
        "`/` does not count. Required unless `images` is given.",
        examples=["library/*"],
    )
    tags: TagRule | None = Field(
        default=None, description="Which tags to take, also on demand. Default: all."
    )
    destination: Annotated[str, AfterValidator(_check_destination)] = Field(
        default="",
        description="Path that is put before the repository's local name. Default: none, it keeps its name.",
        examples=["/mirror"],
    )
    strip_prefix: bool = Field(
        default=False,
        description="Leave out the segments of `prefix` that stand before its first meta character (all, if "
        "it has none): `a/b/**` with destination `/x` puts `a/b/c` under `x/c`.",
    )
    images: tuple[Image, ...] = Field(
        default=(),
        description="Exactly these images, by their upstream names: `repository:tag` or "
        "`repository@sha256:…`. Needs no catalog and no tag list. Excludes `tags`; with `prefix`, all must "
        "match it.",
        examples=[["library/alpine:3.19"]],
    )
    select: Select | None = Field(
        default=None,
        description="JMESPath expression over {repository, tag, digest, mediaType, manifest, config, "
        "annotations, labels, platforms, created}; an image is taken when it gives exactly true. Evaluated "
        "last, because it costs GETs of the manifest and the config of every tag that the other conditions "
        "leave.",
        examples=["contains(platforms, 'linux/arm64')"],
    )
    platforms: PlatformChoice | None = Field(
        default=None,
        description="Platforms to copy of multi-platform images: a list of `os/architecture[/variant]`, or a "
        "section. An empty list means all. Default: what the registry entry says.",
        examples=[["linux/amd64", "linux/arm64"]],
    )
    attestation_manifests: bool = Field(
        default=True,
        description="Whether the attestation manifests that BuildKit lists in an index are mirrored "
        "(`vnd.docker.reference.type`). `false`: the index keeps its digest, without them.",
    )
    missing_children: Literal["fail", "sparse"] = Field(
        default="fail",
        description="What an entry of an index means that is gone upstream. `fail`: the image fails. "
        "`sparse`: the rest is taken, if there is any, and a note of the report names what is missing.",
    )
    foreign_layers: Literal["leave", "fetch"] = Field(
        default="leave",
        description="Layers that registries do not distribute, as older Windows images have them. `fetch`: "
        "from the registry if it has them, else from the addresses that the manifest names, without "
        "credentials; for clients that reach nothing but the mirror.",
    )
    convert: Literal["oci"] | None = Field(
        default=None,
        description="`oci`: tags name Docker images converted to OCI, with another digest; the original "
        "stays beside them and is pulled by the upstream's digest. Images that are listed by digest, and "
        "signatures, are kept as they are. Default: everything is.",
        examples=["oci"],
    )

    min_age: PositiveDuration | None = Field(
        default=None,
        description="How long a tag has to name a digest, since this mirror first saw that, before the "
        "digest is admitted; until then the last one is served. Default: what the registry entry says.",
        examples=["7d"],
    )
    referrers: Referrers | None = Field(
        default=None,
        description="Which referrers (signatures, attestations, SBOMs, …) follow an image. Default: what the "
        "registry entry says.",
    )
    prune: Prune | None = Field(
        default=None,
        description="Remove tags that came by this rule and that the upstream has deleted. Default: they "
        "stay.",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        refusals = tuple(self._contradictions())
        if refusals:
            raise Refusals(refusals)
        return self

    def _contradictions(self) -> Iterator[Refusal]:
        if "prefix" not in self.model_fields_set and not self.images:
            yield Refusal(
                "prefix is missing",
                "add the repositories to take, e.g. prefix: 'library/*' or '**'",
                at=("prefix",),
                involves=("images",),
            )
            return
        if self.images and self.prune is not None:
            yield Refusal(
                "prune needs the list of tags, and images names them itself",
                "drop prune; an image that is not listed any more is removed by hand",
                at=("prune",),
            )
        if self.tags is not None and self.tags.rename is not None and self.prune is not None:
            yield Refusal(
                "prune compares tags with those of the upstream, which tags.rename gives other names",
                "drop one of the two",
                at=("prune",),
                involves=("tags",),
            )
        if self.images and self.tags is not None:
            yield Refusal(
                "images names its tags itself", "drop tags, or make a second content rule of it", at=("tags",)
            )
        for number, image in enumerate(self.images):
            if not self.prefix_pattern.matches(image.repository):
                yield Refusal(
                    f"'{image}' is outside of prefix {self.prefix.text!r}",
                    "drop prefix, or list the image in another content rule",
                    at=("images", number),
                )
        if self.strip_prefix and self.destination.strip("/") == "" and self.prefix_pattern.static:
            # As zot: all repositories of the rule (one) would land under no name at all.
            yield Refusal(
                "stripPrefix leaves nothing of a prefix without meta characters, and destination is empty",
                "write a destination, or a pattern such as 'library/*'",
                at=("stripPrefix",),
                involves=("destination", "prefix"),
            )

    @property
    def prefix_pattern(self) -> Glob:
        """`prefix` without its leading slash (exactly one is dropped, like zot does)."""
        return Glob.parse(self.prefix.text.removeprefix("/"))
