"""The break-glass list: digests that are admitted before their `minAge`, each for a reason and for a time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName

if TYPE_CHECKING:
    from collections.abc import Iterable

_EXAMPLE = "2026-12-24"


def _digest(value: object) -> Digest:
    try:
        return Digest(str(value))
    except InvalidName as error:
        raise Refusal(f"{value!r} is not a digest", "write 'sha256:' and 64 hex digits") from error


def _day(value: object) -> date:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError as error:
        raise Refusal(f"{value!r} is not a day", f"write it as '{_EXAMPLE}'") from error


DigestText = Annotated[
    Digest, PlainValidator(_digest), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
Day = Annotated[
    date, PlainValidator(_day), PlainSerializer(str), WithJsonSchema({"type": "string", "format": "date"})
]


class BreakGlass(ProfileModel):
    """One digest that need not wait."""

    digest: DigestText = Field(
        description="The upstream's digest of the image, under whatever tag.",
        examples=["sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"],
    )
    reason: str = Field(
        min_length=1,
        description="Why it cannot wait; every run reports it.",
        examples=["CVE-2026-1234"],
    )
    expires: Day = Field(
        description="The last day, in UTC, on which it need not wait; from then on the entry does nothing.",
        examples=[_EXAMPLE],
    )

    def has_expired(self, now: float) -> bool:
        """`now` in unix seconds."""
        return datetime.fromtimestamp(now, UTC).date() > self.expires


def break_glass_for(entries: Iterable[BreakGlass], digest: Digest, now: float) -> BreakGlass | None:
    """The entry that lets this digest through at this time."""
    return next((each for each in entries if each.digest == digest and not each.has_expired(now)), None)
