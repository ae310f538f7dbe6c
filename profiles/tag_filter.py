"""Which tags of a repository a rule keeps, and why not the others. Pure: no network, no store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profiles.matching import listed_references
from profiles.patterns.versions import parse_version
from registry_server.oci.companion_tags import is_companion_tag, may_be_referrers_list
from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from semver import Version

    from profiles.model.content_rule import ContentRule
    from profiles.model.tag_rule import TagRule
    from registry_server.oci.reference import Tag

NOT_LISTED = "is not listed in images"
_BY_TAG = "is asked for by digest, and the rule takes images by their tags"


@dataclass(frozen=True, slots=True)
class TagChoice:
    """What a rule makes of the tags of one repository; each in the order in which upstream lists them.

    `dropped` says why; `companions` (cosign's tags: signatures, attestations, SBOMs) are judged with the
    image that they belong to and are in neither; `absent` are tags that the rule lists and upstream lacks.
    `kept` may have lists of referrers (`sha256-<hex>`), which only their content tells from images.
    """

    kept: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    companions: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def choose_tags(rule: ContentRule, tags: Sequence[str], repository: str = "") -> TagChoice:
    """Judge all tags of one upstream repository.

    `repository` (its upstream name) matters only to a rule with `images`.
    """
    if rule.images:
        return _choose_listed(rule, tags, repository)
    ordinary = [tag for tag in dict.fromkeys(tags) if not is_companion_tag(tag)]
    companions = tuple(dict.fromkeys(tag for tag in tags if is_companion_tag(tag)))
    reasons = {tag: why_dropped(rule.tags, tag) for tag in ordinary}
    if rule.tags is not None and rule.tags.newest is not None:
        left = [tag for tag, reason in reasons.items() if not reason]
        reasons |= dict.fromkeys(
            _older_than_newest(left, rule.tags.newest), f"older than the newest {rule.tags.newest}"
        )
    return TagChoice(
        tuple(tag for tag, reason in reasons.items() if not reason),
        {tag: reason for tag, reason in reasons.items() if reason},
        companions,
    )


def why_dropped(rule: TagRule | None, tag: str) -> str:
    """Why a tag by itself is not taken, in words; "" when it is. `newest` needs all tags and is left out."""
    if rule is None:
        return ""
    if rule.regex is not None and not rule.regex.matches(tag):
        return f"does not match regex {rule.regex}"
    if rule.exclude_regex is not None and rule.exclude_regex.matches(tag):
        return f"matches excludeRegex {rule.exclude_regex}"
    version = parse_version(tag) if rule.semver or rule.semver_range is not None else None
    if rule.semver and version is None:
        return "is not a version"
    return _why_outside(rule, version)


def why_not_taken(rule: ContentRule | None, source: str, reference: Tag | Digest) -> str:
    """Why a rule does not take it, in words; "" when it does, as far as the name can tell."""
    if rule is None:
        return ""
    if rule.images:
        return "" if reference in listed_references(rule, source) else NOT_LISTED
    if isinstance(reference, Digest):
        # Behind a digest may be any tag: where tags are chosen, only what a chosen one led to is handed out.
        return _BY_TAG if _chooses(rule) else ""
    return why_dropped(rule.tags, reference)


def _chooses(rule: ContentRule) -> bool:
    tags = rule.tags
    return rule.select is not None or (
        tags is not None
        and bool(tags.regex or tags.exclude_regex or tags.semver or tags.semver_range or tags.newest)
    )


def local_tag(rule: ContentRule, tag: str) -> str:
    """What a tag of the upstream is called here: `tags.rename` of the rule says. It may be no valid tag."""
    rename = rule.tags.rename if rule.tags else None
    return tag if rename is None or is_companion_tag(tag) else rename.apply(tag)


def zot_would_take(rule: ContentRule, tags: Iterable[str]) -> tuple[str, ...]:
    """The tags that zot's search, which looks anywhere in a tag, takes and the whole match here does not."""
    tag_rule = rule.tags
    if tag_rule is None or tag_rule.regex is None:
        return ()
    rest = tag_rule.model_copy(update={"regex": None})
    return tuple(
        tag
        for tag in tags
        if not is_companion_tag(tag)
        and not may_be_referrers_list(tag)  # zot hides these
        and tag_rule.regex.is_found_in(tag)
        and not tag_rule.regex.matches(tag)
        and not (tag_rule.exclude_regex is not None and tag_rule.exclude_regex.is_found_in(tag))
        and not why_dropped(rest, tag)
    )


def zot_would_drop(rule: ContentRule, tags: Iterable[str]) -> tuple[str, ...]:
    """The tags that are kept here although zot's search finds `excludeRegex` somewhere in them."""
    if rule.tags is None or rule.tags.exclude_regex is None:
        return ()
    exclude = rule.tags.exclude_regex
    return tuple(tag for tag in choose_tags(rule, tuple(tags)).kept if exclude.is_found_in(tag))


def _why_outside(rule: TagRule, version: Version | None) -> str:
    if rule.semver_range is None:
        return ""
    if version is None:
        return "is not a version"
    if version in rule.semver_range:
        return ""
    if version.prerelease is not None and not rule.semver_range.prereleases:
        return f"is a pre-release, and semverRange {rule.semver_range} names none"
    return f"is outside of semverRange {rule.semver_range}"


def _older_than_newest(tags: Sequence[str], newest: int) -> list[str]:
    """The tags below the `newest` highest versions. `1.2` and `1.2.0` are two tags of one version."""
    versions = {tag: version for tag in tags if (version := parse_version(tag)) is not None}
    highest = sorted({version.replace(build=None) for version in versions.values()}, reverse=True)[:newest]
    return [tag for tag, version in versions.items() if version < highest[-1]]


def _choose_listed(rule: ContentRule, tags: Sequence[str], repository: str) -> TagChoice:
    listed = [str(reference) for reference in listed_references(rule, repository) if ":" not in reference]
    present = set(tags)
    return TagChoice(
        kept=tuple(tag for tag in listed if tag in present),
        dropped={tag: NOT_LISTED for tag in tags if tag not in listed},
        absent=tuple(tag for tag in listed if tag not in present),
    )
