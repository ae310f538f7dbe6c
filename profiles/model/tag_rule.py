"""Which tags of a repository a content rule takes."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, model_validator

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel, SemverRange, TagRegex
from profiles.model.tag_rename import TagRename

_LONGEST = 200  # characters


def _quoted(text: str) -> str:
    """In YAML's single quotes, where a backslash is one."""
    return "'" + text.replace("'", "''") + "'"


class TagRule(ProfileModel):
    """A tag is taken when it meets every condition that is given here, in this order."""

    regex: TagRegex | None = Field(
        default=None,
        description="Regular expression that the whole tag must match: `4.*` takes the tags that begin with "
        "`4.` (strictly: with `4` and any character; `4\\..*` says a dot). Default: any tag.",
        examples=["4.*"],
    )
    exclude_regex: TagRegex | None = Field(
        default=None,
        description="Regular expression; tags that match it as a whole are left out. Default: none.",
        examples=[".*-(amd64|arm64)"],
    )
    semver: bool = Field(
        default=False,
        description="Take only tags that are versions, leniently: `1`, `v1.2`, `1.2.3-rc.1` and "
        "`3.19-alpine` are, `latest` and `1.2.3.4` are not.",
    )
    semver_range: SemverRange | None = Field(
        default=None,
        description="Take only versions in this range: `>=1.2 <2`, `1.x`, `^1.2`, `~1.2.3`, `1.2 - 2.3`, "
        "several joined by `||`. Numbers are compared as numbers. Pre-releases, and variants such as "
        "`3.19-alpine` that are spelled like them, are in the range only when it names one (`>=1.2-0`). "
        "Includes `semver`. Default: any tag.",
        examples=[">=1.2 <2"],
    )
    newest: int | None = Field(
        default=None,
        ge=1,
        description="Of what is left, take the tags of the N highest versions (a count, per repository). "
        "Needs `semver` or `semverRange`, which give tags an order. Default: all.",
        examples=[3],
    )

    rename: TagRename | None = Field(
        default=None,
        description="Another local name for these tags. The conditions above apply to the upstream's name. "
        "Not with `onDemand`, and not with rules of `verify` that look at tags.",
        examples=[{"regex": "v(.*)", "to": "$1"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_names(cls, value: object) -> object:
        """Tags that are listed by name, as other programs have it."""
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple):
            return value
        texts = [re.escape(str(name)) for name in names if isinstance(name, str | int | float)]
        regex = "|".join(texts)[:_LONGEST] or "v3"
        raise Refusal(
            "tags says which tags to take by keys, not by their names",
            f"write {{regex: {_quoted(regex)}}} to take these, or list images ('library/alpine:3.19') in "
            "place of prefix and tags",
        )

    @model_validator(mode="after")
    def _check_newest(self) -> Self:
        if self.newest is not None and not self.semver and self.semver_range is None:
            raise Refusal(
                f"newest: {self.newest} must know which tag is newer, and only versions have an order",
                "add 'semver: true' or a semverRange, or drop newest",
                at=("newest",),
                involves=("semver", "semverRange"),
            )
        return self
