"""Warnings about other registries that images are written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.model.destination import STORE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.loading.key_names import KeyPath
    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry

_Found = tuple["KeyPath", str, str]


def check(profile: Profile) -> Iterator[_Found]:
    """Path, what was found, what to write instead."""
    for number, each in enumerate(profile.destinations):
        path: KeyPath = ("destinations", number)
        if each.force and each.trust_destination:
            found = "tags that somebody else moves are not seen with trustDestination, so force finds none"
            yield (*path, "force"), found, "drop one of the two"
    for number, entry in enumerate(profile.sync.registries):
        if set(entry.to) != {STORE}:
            yield from _on_entry(profile, entry, ("sync", "registries", number))


def _on_entry(profile: Profile, entry: RegistryEntry, path: KeyPath) -> Iterator[_Found]:
    hosts = {url.host for url in entry.urls}
    for each in (profile.destination(name) for name in entry.to if name != STORE):
        if each.url.host in hosts and not each.prefix and each.template is None:
            found = f"{each.name!r} is on the host that it is mirrored from, under the same names"
            yield (*path, "to"), found, "add a prefix to the destination, e.g. 'prefix: mirror'"
    for number, rule in enumerate(entry.content):
        choice = rule.platforms or entry.platforms
        if choice is not None and choice.only and not choice.rewrite:
            found = "most registries refuse an index whose other platforms they do not have"
            at = (*path, "content", number, "platforms") if rule.platforms else (*path, "platforms")
            yield at, found, "write it as a section with 'only' and 'rewrite: true'"
