"""Warnings about content rules: patterns that take nothing, or not what zot takes by them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from profiles.errors import Finding
from profiles.patterns.globs import sample_names
from profiles.patterns.zot_regex import differs_from_full_match, to_full_match, to_search

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.loading.key_names import KeyPath
    from profiles.model.content_rule import ContentRule
    from profiles.model.sync import Sync
    from profiles.model.tag_rule import TagRule

_Found = tuple["KeyPath", str, str]

# Without meta characters an expression is a tag; if it cannot be one, it matches none.
_LITERAL = re.compile(r"[^\\.^$*+?{}\[\]|()]*")
_TAG_LETTERS = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)


def check(sync: Sync, *, from_zot: bool) -> Iterator[_Found | Finding]:
    """Path, what was found, what to write instead. `from_zot`: the rules were written for zot."""
    for at, entry in enumerate(sync.registries):
        for number, rule in enumerate(entry.content):
            path: KeyPath = ("sync", "registries", at, "content", number)
            yield from _on_prefix(rule, path)
            if rule.tags is not None:
                yield from _on_nothing(rule.tags, (*path, "tags"))
                if from_zot:
                    yield from _on_width(rule.tags, (*path, "tags"))


def _on_prefix(rule: ContentRule, path: KeyPath) -> Iterator[Finding]:
    pattern = rule.prefix_pattern
    if rule.images or sample_names(pattern):
        return
    found = f"{rule.prefix.text!r} can match no repository"
    yield Finding.takes_nothing((*path, "prefix"), found, _mended(pattern.text))


def _mended(text: str) -> str:
    if not text:
        return "write '**' for every repository"
    if re.search("[A-Z]", text):
        return f"repository names are in lower case: write {text.lower()!r}"
    if ".*" in text:
        return f"it is a pattern, not a regular expression: write {text.replace('.*', '**')!r}"
    if text != text.strip("/") or "//" in text:
        return f"write {re.sub('/+', '/', text).strip('/') or '**'!r}, without the extra '/'"
    if ":" in text:
        return "a prefix has no tag: use tags.regex, or list images"
    return "a repository name has lower-case letters, digits and single separators"


def _on_nothing(tags: TagRule, path: KeyPath) -> Iterator[Finding]:
    if tags.semver_range is not None and tags.semver_range.empty:
        found = f"no version is in {tags.semver_range.text!r}"
        write = "alternatives are joined by '||', e.g. '<1 || >2'"
        yield Finding.takes_nothing((*path, "semverRange"), found, write)
    regex = tags.regex
    if regex is not None and _LITERAL.fullmatch(regex.text) and not _TAG_LETTERS.fullmatch(regex.text):
        found = f"{regex.text!r} can match no tag"
        write = "write e.g. '.*', or drop it to take any tag"
        yield Finding.takes_nothing((*path, "regex"), found, write)


def _on_width(tags: TagRule, path: KeyPath) -> Iterator[_Found]:
    for key, pattern, effect in (
        ("regex", tags.regex, "takes"),
        ("excludeRegex", tags.exclude_regex, "leaves out"),
    ):
        if pattern is not None and pattern.text and differs_from_full_match(pattern.text):
            found = f"{pattern.text!r} must match the whole tag; zot {effect} tags that merely contain it"
            whole, part = to_search(pattern.text), to_full_match(pattern.text)
            yield (*path, key), found, f"write {part!r} to do the same, or {whole!r} to mean the whole tag"
