"""Which companions (OCI 1.1 referrers) follow an image, and what comes of it when one cannot."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Referrers(ProfileModel):
    """What refers to an image follows it, and what refers to that. (`sha256-….sig` tags: the entry says.)"""

    follow: bool = Field(
        default=True,
        description="Whether referrers follow. Each poll then sends one request for every stored image (tags "
        "with one digest share that), if the upstream has the referrers API; false saves these requests.",
    )
    artifact_types: tuple[str, ...] = Field(
        default=(),
        description="Patterns of artifact types to take; `*` is any text. Default: all.",
        examples=[["application/vnd.dev.sigstore.bundle*", "application/spdx+json"]],
    )
    annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Annotations that a referrer has to have, all of them; `*` in a value is any text.",
        examples=[{"org.opencontainers.image.created": "*"}],
    )
    nested: bool = Field(
        default=False,
        description="Whether each poll also asks what refers to platforms of an image and to companions that "
        "are here already (a request each). Default: that is asked when the image or the companion is new, "
        "and when the image is asked for by name.",
    )
    on_failure: Literal["image", "report"] | None = Field(
        default=None,
        description="What a companion that cannot be copied means. `image`: its image fails. `report`: the "
        "image is taken, and the report names the companion. Default: `image` under a policy that enforces, "
        "else `report`.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        chosen = {"artifact_types", "annotations", "nested", "on_failure"} & self.model_fields_set
        if not self.follow and chosen:
            raise Refusal(
                "no referrer follows, so there is nothing to choose",
                "drop 'follow: false', or the other keys",
                at=("follow",),
            )
        return self

    def takes(self, artifact_type: str | None, annotations: Mapping[str, str]) -> bool:
        """Whether a referrer follows, by the artifact type and the annotations of its manifest."""
        return self.follow and not any(self._reasons(artifact_type or "", annotations))

    @property
    def takes_all(self) -> bool:
        return self.follow and not self.artifact_types and not self.annotations

    def _reasons(self, artifact_type: str, annotations: Mapping[str, str]) -> Iterator[bool]:
        patterns = self.artifact_types
        yield bool(patterns) and not any(fnmatchcase(artifact_type, pattern) for pattern in patterns)
        for key, pattern in self.annotations.items():
            yield key not in annotations or not fnmatchcase(annotations[key], pattern)
