"""When tags go that the upstream has deleted."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from profiles.errors import Refusal
from profiles.fields import PositiveDuration, ProfileModel, TagRegex

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
        description="How long every poll has to find the tag gone before it goes here (seconds, or `30d`).",
        examples=["30d"],
    )
    max_share: Share = Field(
        default=0.1,
        description="The largest part of the rule's tags here that may go at once. More than that is an "
        "accident of the upstream until somebody says otherwise: then nothing goes, and `mirrorflow store "
        "prune --yes` removes them.",
        examples=["10%"],
    )
    keep: tuple[TagRegex, ...] = Field(
        default=(),
        description="Regular expressions; tags that match one of them as a whole never go. Default: none.",
        examples=[["v1\\..*"]],
    )
