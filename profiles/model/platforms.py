"""Which platforms of multi-platform images to take, and what becomes of their index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel, WantedPlatform

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema


class PlatformChoice(ProfileModel):
    """Platforms to copy of multi-platform images. A list is short for `only`."""

    list_for: ClassVar[str] = "only"

    only: tuple[WantedPlatform, ...] = Field(
        default=(),
        description="Platforms to copy: `os/architecture[/variant]` or an architecture. "
        "`windows(10.0.17763)/amd64` takes one build of Windows (`os.version`). Entries of an index that "
        "name no platform are always copied. An empty list means all.",
        examples=[["linux/amd64", "linux/arm64"]],
    )
    rewrite: bool = Field(
        default=False,
        description="What a tag names: `false` the upstream's index with its digest, some of whose platforms "
        "are not here; `true` a new, smaller index, beside which the upstream's can be pulled by its digest.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: object) -> object:
        """zot's "" means "entries without a platform too"; those are always taken here."""
        if not isinstance(value, list | tuple):
            return value
        return {"only": tuple(item for item in value if item != "") if len(value) > 1 else value}

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.rewrite and not self.only:
            raise Refusal(
                "rewrite cuts an index down to what `only` lists, and it lists nothing",
                "add e.g. only: [linux/amd64], or drop rewrite",
                at=("rewrite",),
                involves=("only",),
            )
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        section = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [section["properties"]["only"], dict(section)]}
