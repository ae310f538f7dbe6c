"""A registry entry and its content rules in a person's words: pure, and quick to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiles.model.content_rule import ContentRule
    from profiles.model.sync import RegistryEntry
    from profiles.model.tag_rule import TagRule
    from profiles.values.shard import Shard


def describe_entry(entry: RegistryEntry, shard: Shard | None = None) -> str:
    """What the Prefect UI shows of a deployment, as Markdown."""
    urls = ", or when that fails ".join(f"`{url}`" for url in entry.urls)
    rhythm = str(entry.timing) if entry.timing else "no schedule"
    demand = ", and on demand" if entry.on_demand else ""
    rules = "\n".join(f"- {describe_rule(rule)}" for rule in entry.content)
    part = f"shard {shard} of " if shard else ""
    return f"Mirrors {part}{urls}, {rhythm}{demand}.\n\n{rules or 'No content rule: nothing is polled.'}"


def describe_rule(rule: ContentRule) -> str:
    """One content rule as a phrase: what is taken, and where it lands."""
    what = (
        "exactly " + ", ".join(f"`{image}`" for image in rule.images)
        if rule.images
        else f"`{rule.prefix}`: {describe_tags(rule.tags)}"
    )
    parts = [what]
    if rule.select is not None:
        parts.append(f"where `{rule.select}`")
    if rule.platforms and rule.platforms.only:
        alone = " in an index of their own" if rule.platforms.rewrite else ""
        parts.append("for " + ", ".join(f"`{platform}`" for platform in rule.platforms.only) + alone)
    if rule.convert:
        parts.append("converted to OCI")
    if rule.destination.strip("/") or rule.strip_prefix:
        parts.append(f"into `/{rule.destination.strip('/')}`" + (" without its prefix" * rule.strip_prefix))
    return ", ".join(parts)


def describe_tags(tags: TagRule | None) -> str:
    """Which tags are taken, as a phrase."""
    if tags is None:
        return "all tags"
    parts = []
    if tags.regex is not None:
        parts.append(f"like `{tags.regex}`")
    if tags.exclude_regex is not None:
        parts.append(f"not like `{tags.exclude_regex}`")
    if tags.semver_range is not None:
        parts.append(f"versions `{tags.semver_range}`")
    elif tags.semver:
        parts.append("versions only")
    if tags.newest is not None:
        parts.append(f"the newest {tags.newest}")
    if tags.rename is not None:
        parts.append(f"`{tags.rename.regex}` renamed to `{tags.rename.to}`")
    return "tags " + ", ".join(parts) if parts else "all tags"
