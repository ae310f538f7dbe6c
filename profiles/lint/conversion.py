"""Warnings about the form that images take here: digests that change, and what was said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.loading.key_names import KeyPath
    from profiles.model.content_rule import ContentRule
    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry

_Found = tuple["KeyPath", str, str]


def check(profile: Profile) -> Iterator[_Found]:
    """Path, what was found, what to write instead."""
    for at, entry in enumerate(profile.sync.registries):
        path: KeyPath = ("sync", "registries", at)
        if not entry.preserve_digest and not any(rule.convert for rule in entry.content):
            found = "digests and Docker's media types are preserved all the same"
            yield (*path, "preserveDigest"), found, "write 'convert: oci' in content rules, or drop it"
        for number, rule in enumerate(entry.content):
            yield from _on_rule(profile, entry, rule, (*path, "content", number))


def _on_rule(profile: Profile, entry: RegistryEntry, rule: ContentRule, path: KeyPath) -> Iterator[_Found]:
    key = "convert" if rule.convert else "platforms"
    choice = rule.platforms or entry.platforms
    if not rule.convert and not (choice and choice.rewrite):
        return
    if rule.images and all(isinstance(image.reference, Digest) for image in rule.images):
        yield (*path, key), "images that are listed by digest keep it", "list tags, or drop it"
    elif entry.only_signed or profile.verify is not None:
        found = "signatures name the upstream's digests: under its tag here an image looks unsigned"
        write = "verify and pull by the upstream's digest (see docs/forms.md), or drop it"
        yield (*path, key), found, write
