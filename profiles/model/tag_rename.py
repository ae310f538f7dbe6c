"""`tags.rename`: another name here for the tags that a rule takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Self

from pydantic import Field, model_validator

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel, TagRegex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.profile import Profile
    from profiles.model.trust.verification import VerifyRule

# Go's regexp.Expand, as regclient and sed's users know it: $0, $1, ${name}, and $$ for a dollar.
_PLACE: Final = re.compile(r"\$(?:(?P<dollar>\$)|(?P<number>\d+)|\{(?P<name>\w+)\})?", re.ASCII)


class TagRename(ProfileModel):
    """Another name for tags here. Tags that `regex` does not match, and companions' tags, keep theirs."""

    regex: TagRegex = Field(
        description="Regular expression that the whole tag of the upstream must match, with groups.",
        examples=["v(.*)"],
    )
    to: str = Field(
        description="The local name of the tag: `$1` and `${name}` stand for groups of `regex`, `$0` for "
        "the whole tag, `$$` for a dollar.",
        examples=["$1"],
    )

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        if not self.regex.supports_groups:
            raise Refusal(
                f"{self.regex.text!r} repeats what repeats, so that it cannot say what its groups hold",
                "write it without nested repetitions",
                at=("regex",),
            )
        groups = self.regex.groups
        for found in _PLACE.finditer(self.to):
            wanted = found["number"] or found["name"]
            if not (found["dollar"] or (wanted is not None and wanted in groups)):
                raise Refusal(
                    f"{found[0]!r} is no group of regex",
                    f"write one of {', '.join(_spelled(each) for each in groups)}, or '$$' for a dollar",
                    at=("to",),
                    involves=("regex",),
                )
        return self

    def apply(self, tag: str) -> str:
        """The name here. It may be no tag: the caller looks."""
        values = self.regex.match_groups(tag)
        if values is None:
            return tag
        return _PLACE.sub(
            lambda found: "$" if found["dollar"] else values[found["number"] or found["name"]], self.to
        )


def _spelled(group: str) -> str:
    return f"'${group}'" if group.isdigit() else f"'${{{group}}}'"


def contradictions(profile: Profile) -> Iterator[Refusal]:
    """What is stored is judged by the tag that it has here, which is not the one that a policy means."""
    if profile.verify is None or not any(map(_uses_tags, profile.verify.rules)):
        return
    for number, entry in enumerate(profile.sync.registries):
        for at, rule in enumerate(entry.content):
            if rule.tags is not None and rule.tags.rename is not None:
                yield Refusal(
                    "a rule of verify looks at tags (tags, identity), and a renamed tag has another one",
                    "drop rename, or write the rules of verify without tags and identity",
                    at=("sync", "registries", number, "content", at, "tags", "rename"),
                    involves=("verify",),
                )


def _uses_tags(rule: VerifyRule) -> bool:
    return bool(rule.tags) or rule.signatures.identity != "ignore"
