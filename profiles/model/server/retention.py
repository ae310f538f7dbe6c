"""What garbage collection keeps and what it deletes, in zot's words."""

from __future__ import annotations

from pydantic import Field

from profiles.model.fields import PositiveDuration, ProfileModel, RepositoryGlob, TagRegex
from registry_server.store.gc import retention as rules


class KeepLimits(ProfileModel):
    """What stays. Meeting one of these is enough; where none is given, everything stays."""

    pulled_within: PositiveDuration | None = Field(
        default=None,
        description="Keep what was pulled within this time. What was never pulled counts from its push.",
        examples=["720h"],
    )
    pushed_within: PositiveDuration | None = Field(
        default=None, description="Keep what came within this time.", examples=["720h"]
    )
    most_recently_pushed_count: int | None = Field(
        default=None,
        ge=0,
        description="Keep this many of those that came last (a count, per repository). 0 means no "
        "such limit.",
        examples=[10],
    )
    most_recently_pulled_count: int | None = Field(
        default=None,
        ge=0,
        description="Keep this many of those that were pulled last (a count, per repository). 0 means no "
        "such limit.",
        examples=[10],
    )

    def limits(self) -> rules.RetentionLimits:
        return rules.RetentionLimits(
            pulled_within=self.pulled_within,
            pushed_within=self.pushed_within,
            most_recently_pushed=self.most_recently_pushed_count or None,
            most_recently_pulled=self.most_recently_pulled_count or None,
        )


class KeepTags(KeepLimits):
    """Tags that stay. A tag is judged by the first of these whose patterns take it; without one, it goes."""

    patterns: tuple[TagRegex, ...] = Field(
        default=(),
        description="Regular expressions; one of them occurs anywhere in the tag (unlike those of `sync`, "
        "and as in zot: to keep too much is the smaller mistake). Default: any tag.",
        examples=[["v2.*", ".*-prod"]],
    )

    def takes(self, tag: str) -> bool:
        """Whether the tag is judged by these limits."""
        return not self.patterns or any(pattern.is_found_in(tag) for pattern in self.patterns)


class RetentionPolicy(ProfileModel):
    """The first policy that matches a repository's name here is the one for it."""

    repositories: tuple[RepositoryGlob, ...] = Field(
        min_length=1,
        description="Repositories by their local names: names, or patterns as in `prefix`.",
        examples=[["library/*", "tmp/**"]],
    )
    delete_referrers: bool = Field(
        default=False,
        description="Delete also what refers to an image that is not stored. What refers to an image is "
        "deleted with it in any case.",
    )
    delete_untagged: bool = Field(
        default=True,
        description="Delete manifests that no tag, index or listed digest leads to, after `delay`.",
    )
    keep_tags: tuple[KeepTags, ...] = Field(
        default=(), description="Which tags to keep; the others are deleted. Default: all tags."
    )
    keep_untagged: KeepLimits | None = Field(
        default=None, description="Which of the untagged manifests to keep all the same. Default: none."
    )

    def rules(self) -> rules.RepositoryRetention:
        return rules.RepositoryRetention(
            repositories=self.takes,
            delete_referrers=self.delete_referrers,
            delete_untagged=self.delete_untagged,
            keep_tags=tuple(rules.KeepTags(each.takes, each.limits()) for each in self.keep_tags),
            keep_untagged=self.keep_untagged.limits() if self.keep_untagged else None,
        )

    def takes(self, repository: str) -> bool:
        """Whether the policy is for this repository, unless an earlier one is."""
        return any(pattern.matches(repository) for pattern in self.repositories)


class Retention(ProfileModel):
    """Which tags and untagged manifests go. Without policies all tags stay."""

    dry_run: bool = Field(
        default=False,
        description="Only say what the policies would delete; it is in the output of `mirrorflow store gc`.",
    )
    delay: PositiveDuration | None = Field(
        default=None,
        description="How long a manifest is kept after its last tag went (seconds, or `24h`). "
        "Default: `gcDelay`.",
        examples=["24h"],
    )
    policies: tuple[RetentionPolicy, ...] = Field(
        default=(), description="The policies; the first that matches a repository counts."
    )

    def rules(self) -> rules.Retention:
        """As the store knows them."""
        return rules.Retention(tuple(each.rules() for each in self.policies), self.delay, self.dry_run)
