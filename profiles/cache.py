"""How much of what came on demand is kept."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from profiles.errors import Refusal, Refusals
from profiles.fields import PositiveDuration, ProfileModel
from profiles.sizes import parse_size

_SCHEMA = {
    "oneOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(B|[kK]B|MB|GB|TB|KiB|MiB|GiB|TiB)?\s*$"},
    ],
    "examples": ["50GiB"],
}
Size = Annotated[int, PlainValidator(parse_size), WithJsonSchema(_SCHEMA)]


class Cache(ProfileModel):
    """How much is kept of what came on demand. What nobody pulls goes first; polled or pushed tags stay."""

    max_size: Size | None = Field(
        default=None,
        description="Most bytes of it (a number, or `50GiB`); layers that images share count once. "
        "Default: no limit.",
        examples=["50GiB"],
    )
    max_idle: PositiveDuration | None = Field(
        default=None,
        description="How long an image stays that nobody pulls (seconds, or `30d`). Default: for ever.",
        examples=["30d"],
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.max_size is None and self.max_idle is None:
            refusal = Refusal(
                "cache says nothing",
                "add maxSize or maxIdle, or drop cache",
                at=("maxSize",),
                involves=("maxIdle",),
            )
            raise Refusals((refusal,))
        return self
