"""Warnings: what a profile may say, and probably does not mean."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from profiles.errors import Finding
from profiles.lint import (
    access,
    content_rules,
    conversion,
    credentials,
    destinations,
    notify,
    registry_entries,
    retention,
)
from profiles.lint.collisions import collisions
from profiles.loading.key_names import Diagnostic
from profiles.model.own_address import is_own_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.loading.key_names import KeyPath, NormalizedDocument
    from profiles.model.profile import Profile
    from profiles.model.server.storage import Storage, StorageOptions
    from profiles.model.sync import Sync


def check_all(profile: Profile, normalized: NormalizedDocument) -> Iterator[Diagnostic]:
    """Everything worth a word, in no particular order."""
    found = chain(
        _on_storage(profile.storage, ("storage",)),
        *(_on_storage(sub, ("storage", "subPaths", key)) for key, sub in profile.storage.sub_paths.items()),
        retention.check(profile),
        access.check(profile.http),
        _on_sync(profile.sync),
        registry_entries.check(profile.sync),
        content_rules.check(profile.sync, from_zot=normalized.is_zot),
        credentials.check(profile.sync),
        credentials.check_helpers(profile),
        conversion.check(profile),
        destinations.check(profile),
        notify.check(profile.notify),
        _on_own_addresses(profile),
        _on_object_storage(profile.storage),
        _on_cache(profile),
        _on_collisions(profile.sync, normalized),
    )
    for path, text, write, severity in (Finding(*each) for each in found):
        yield Diagnostic(normalized.place(path), normalized.format_path(path), text, write, severity)


def _on_object_storage(storage: Storage) -> Iterator[tuple[KeyPath, str, str]]:
    if storage.storage_driver is None:
        keys = {"redirect_blob_url": "redirectBlobURL", "redirect_lifetime": "redirectLifetime"}
        for name in keys.keys() & storage.model_fields_set:
            yield ("storage", keys[name]), "has no effect without storageDriver", "drop it"
        return
    if storage.redirect_blob_url is False and "redirect_lifetime" in storage.model_fields_set:
        found = "has no effect while redirectBlobURL is false"
        yield ("storage", "redirectLifetime"), found, "drop it"
    if (name := storage.storage_driver.name) != "s3":
        found = f"{name!r} has not been tried against the cloud itself yet"
        yield ("storage", "storageDriver", "name"), found, "try it with content that can be fetched again"


def _on_storage(storage: StorageOptions, path: KeyPath) -> Iterator[tuple[KeyPath, str, str]]:
    if not storage.dedupe:
        yield (*path, "dedupe"), "blobs are always shared within one storage root", "drop it"
    for name, key in (("gc_delay", "gcDelay"), ("gc_interval", "gcInterval")):
        if not storage.gc and name in storage.model_fields_set:
            yield (*path, key), "has no effect while gc is false", "drop it, or set 'gc: true'"


def _on_sync(sync: Sync) -> Iterator[Finding]:
    if not sync.registries:
        yield Finding.takes_nothing(
            ("sync",), "nothing is mirrored", "add registry entries to sync.registries"
        )
    elif not sync.enable:
        found = "nothing is mirrored while it is false"
        yield Finding.takes_nothing(("sync", "enable"), found, "set it to true, or drop it")
    if sync.download_dir is not None:
        found = "not used: what arrives is kept in the store itself until it is whole"
        yield Finding(("sync", "downloadDir"), found, "drop it")


def _on_own_addresses(profile: Profile) -> Iterator[tuple[KeyPath, str, str]]:
    for number, entry in enumerate(profile.sync.registries):
        for at, url in enumerate(entry.urls):
            if is_own_address(url, profile.http):
                found = f"{url} is this mirror itself: it is left out, and the others are asked"
                yield (
                    ("sync", "registries", number, "urls", at),
                    found,
                    "nothing, if its peers have this profile",
                )


def _on_cache(profile: Profile) -> Iterator[tuple[KeyPath, str, str]]:
    for number, entry in enumerate(profile.sync.registries):
        if entry.cache is not None and not profile.storage.gc:
            found = "has no effect while storage.gc is false: garbage collection gives the bytes back"
            yield ("sync", "registries", number, "cache"), found, "set 'gc: true', or drop it"


def _on_collisions(sync: Sync, normalized: NormalizedDocument) -> Iterator[tuple[KeyPath, str, str]]:
    for one in collisions(sync):
        first = ("sync", "registries", one.first.entry_number, "content", one.first.rule_number)
        second = ("sync", "registries", one.second.entry_number, "content", one.second.rule_number)
        there = f"{normalized.format_path(first)} (line {normalized.place(first).line})"
        found = f"puts {one.second_upstream} under {one.local!r}, where {there} puts {one.first_upstream}"
        yield second, found, "give one of the two another destination"
