"""How much on-demand content is kept. Sizes: bytes as a number, or with a unit (`500MB`, `50GiB`)."""

from __future__ import annotations

import math
import re
from typing import Annotated, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import PositiveDuration, ProfileModel

_UNITS = {
    "": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_TEXT = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)\s*([A-Za-z]*)", re.ASCII)
_ADVICE = "write '50GiB', '500MB', or a number of bytes"


def parse_size(value: object) -> int:
    """Bytes. Raises `Refusal` for anything that is not a finite number of them, more than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refusal("not a size", _ADVICE)
    size = _from_text(value.strip()) if isinstance(value, str) else float(value)
    if not math.isfinite(size) or size < 1:
        raise Refusal(f"{value!r} is not a size", _ADVICE)
    return int(size)


def _from_text(text: str) -> float:
    found = _TEXT.fullmatch(text)
    if found is None or found[2] not in _UNITS:
        raise Refusal(f"{text[:60]!r} is not a size", _ADVICE)
    return float(found[1]) * _UNITS[found[2]]


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
        description="How long an image stays without a pull (seconds, or `30d`). Default: for ever.",
        examples=["30d"],
    )

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.max_size is None and self.max_idle is None:
            refusal = Refusal(
                "cache says nothing",
                "add maxSize or maxIdle, or drop cache",
                at=("maxSize",),
                involves=("maxIdle",),
            )
            raise Refusals((refusal,))
        return self
