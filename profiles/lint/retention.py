"""Warnings about retention: policies that never apply, and those that delete what polling brings back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.matching import listed_references, local_name
from profiles.patterns.globs import sample_names
from registry_server.oci.reference import Tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.loading.key_names import KeyPath
    from profiles.model.content_rule import ContentRule
    from profiles.model.profile import Profile
    from profiles.model.server.retention import KeepTags, RetentionPolicy
    from profiles.model.server.storage import StorageOptions
    from profiles.model.tag_rule import TagRule

_Found = tuple["KeyPath", str, str]


def check(profile: Profile) -> Iterator[_Found]:
    """Path, what was found, what to write instead."""
    storage = profile.storage
    for path, options in (
        (("storage",), storage),
        *((("storage", "subPaths", key), sub) for key, sub in storage.sub_paths.items()),
    ):
        if not options.gc and options.retention.policies:
            yield (*path, "retention"), "has no effect while gc is false", "drop it, or set 'gc: true'"
    if profile.sync.enable:
        yield from _against_polling(profile)


def _against_polling(profile: Profile) -> Iterator[_Found]:
    """One word for each policy, with the first rule that it works against."""
    told: set[KeyPath] = set()
    for entry in profile.sync.registries:
        for rule in entry.content if entry.timing is not None else ():
            for upstream, local in _places(rule):
                path, options = _options_for(profile, local)
                for number, policy in enumerate(options.retention.policies):
                    if policy.takes(local):
                        here = (*path, "retention", "policies", number)
                        lost = _lost(policy, rule, upstream)
                        if options.gc and lost and here not in told:
                            told.add(here)
                            found = (
                                f"may delete {lost} of {local!r}, which polling {entry.name!r} brings back"
                            )
                            yield here, found, "keep at least what the content rule takes"
                        break


def _places(rule: ContentRule) -> Iterator[tuple[str, str]]:
    """Names that the rule takes, or might take, and where they land."""
    samples = [str(image.repository) for image in rule.images] or sample_names(rule.prefix_pattern, "example")
    for upstream in samples:
        local = local_name(rule, upstream)
        if local is not None:
            yield upstream, local


def _options_for(profile: Profile, local: str) -> tuple[KeyPath, StorageOptions]:
    key = f"/{local.partition('/')[0]}"
    sub = profile.storage.sub_paths.get(key)
    return (("storage", "subPaths", key), sub) if sub else (("storage",), profile.storage)


def _lost(policy: RetentionPolicy, rule: ContentRule, upstream: str) -> str:
    """Tags that the rule takes and the policy need not keep, in words; "" when it keeps them all."""
    if not policy.keep_tags:
        return ""
    if rule.images:
        tags = [str(each) for each in listed_references(rule, upstream) if isinstance(each, Tag)]
        gone = [tag for tag in tags if not _keeps(policy, tag)]
        return f"the tag {gone[0]!r}" if gone else ""
    return "" if any(_keeps_all_of(each, rule.tags) for each in policy.keep_tags) else "tags"


def _keeps(policy: RetentionPolicy, tag: str) -> bool:
    return any(each.takes(tag) and _is_unlimited(each) for each in policy.keep_tags)


def _keeps_all_of(keep: KeepTags, tags: TagRule | None) -> bool:
    """Whether one list of patterns surely keeps whatever a rule takes."""
    texts = {pattern.text for pattern in keep.patterns}
    same = tags is not None and tags.regex is not None and tags.regex.text in texts
    return _is_unlimited(keep) and (not texts or bool(texts & {".*", ".+", ""}) or same)


def _is_unlimited(keep: KeepTags) -> bool:
    limits = (
        keep.pulled_within,
        keep.pushed_within,
        keep.most_recently_pushed_count or None,
        keep.most_recently_pulled_count or None,
    )
    return all(limit is None for limit in limits)
