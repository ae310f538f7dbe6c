"""What the models share: the base class, and field types that compile their text at load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from profiles.errors import Refusal
from profiles.patterns.globs import Glob
from profiles.patterns.regex import TagPattern
from profiles.patterns.select_expression import SelectExpression
from profiles.patterns.versions import VersionRange
from profiles.values.dask_address import parse_dask_address
from profiles.values.durations import format_duration, parse_duration
from profiles.values.poll_timing import parse_cron, parse_zone
from profiles.values.upstream_url import UpstreamUrl, parse_token_service
from registry_server.oci.descriptor import Platform
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import ImageName


class ProfileModel(BaseModel):
    """A part of a profile: immutable, and every key is known or refused."""

    # The key whose value a list in place of the whole section is short for.
    list_for: ClassVar[str] = ""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        arbitrary_types_allowed=True,
    )


def _parse_platform(value: object) -> Platform:
    if isinstance(value, Platform):
        return value
    try:
        return Platform.parse(value if isinstance(value, str) else "")
    except InvalidName as error:
        raise Refusal(
            f"{value!r} is not a platform",
            "write 'linux/amd64', 'linux/arm/v7', 'arm64' or 'windows(10.0.17763)/amd64'",
        ) from error


def _parse_image(value: object) -> ImageName:
    if isinstance(value, ImageName):
        return value
    try:
        return ImageName.parse(value.lstrip("/") if isinstance(value, str) else "")
    except InvalidName as error:
        raise Refusal(
            str(error), "write 'repository:tag' or 'repository@sha256:…', without the host"
        ) from error


def _resolve_path(path: Path, info: ValidationInfo) -> Path:
    """Relative paths begin at the profile's folder, so that it means the same from wherever it is run."""
    folder: Path | None = (info.context or {}).get("folder")
    path = path.expanduser()
    return path if folder is None else folder / path


def _check_positive(seconds: float) -> float:
    if seconds <= 0:
        raise Refusal("the duration must be longer than 0", "write e.g. '30s'")
    return seconds


def _text(example: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "examples": [example], **more})


_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w)?)+\s*$"},
    ],
    "examples": ["6h", "1h30m", 30],
}

Duration = Annotated[
    float,
    PlainValidator(parse_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema(_DURATION_SCHEMA),
]
Cron = Annotated[str, PlainValidator(parse_cron), _text("30 3 * * *")]
TimeZone = Annotated[str, PlainValidator(parse_zone), _text("Europe/Berlin")]
PositiveDuration = Annotated[Duration, AfterValidator(_check_positive)]
RepositoryGlob = Annotated[Glob, PlainValidator(Glob.parse), PlainSerializer(str), _text("library/*")]
TagRegex = Annotated[
    TagPattern, PlainValidator(TagPattern.parse), PlainSerializer(str), _text("4.*", format="regex")
]
SemverRange = Annotated[
    VersionRange, PlainValidator(VersionRange.parse), PlainSerializer(str), _text(">=1.2 <2")
]
Select = Annotated[
    SelectExpression,
    PlainValidator(SelectExpression.parse),
    PlainSerializer(str),
    _text("contains(platforms, 'linux/arm64')"),
]
Url = Annotated[
    UpstreamUrl,
    PlainValidator(UpstreamUrl.parse),
    PlainSerializer(str),
    _text("https://registry.example:5000"),
]
TokenService = Annotated[str, PlainValidator(parse_token_service), _text("https://auth.example")]
WantedPlatform = Annotated[
    Platform, PlainValidator(_parse_platform), PlainSerializer(str), _text("linux/amd64")
]
Image = Annotated[ImageName, PlainValidator(_parse_image), PlainSerializer(str), _text("library/alpine:3.19")]
DaskAddress = Annotated[str, PlainValidator(parse_dask_address), _text("dask://scheduler.example:8786")]
ProfilePath = Annotated[Path, AfterValidator(_resolve_path)]
