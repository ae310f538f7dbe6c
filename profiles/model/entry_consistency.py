"""Keys of a registry entry that contradict one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.errors import Refusal
from profiles.model.credential_helper import helper_contradictions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.registry_entry import RegistryEntry


def contradictions(entry: RegistryEntry) -> Iterator[Refusal]:
    """Each with what to write instead."""
    yield from _timing_contradictions(entry)
    yield from _retry_contradictions(entry)
    yield from _form_contradictions(entry)
    yield from _token_contradictions(entry)
    yield from _renaming_contradictions(entry)
    yield from helper_contradictions(entry)
    yield from _kind_contradictions(entry)
    given = {
        "manifestCheckInterval": entry.manifest_check_interval,
        "onDemandInBackground": entry.on_demand_in_background,
        "tagListing": entry.tag_listing != "local",
        "cache": entry.cache,
    }
    for key in (key for key, value in given.items() if value and not entry.on_demand):
        yield Refusal(
            f"{key} requires onDemand",
            f"add 'onDemand: true', or drop {key}",
            at=(key,),
            involves=("onDemand",),
        )


def _kind_contradictions(entry: RegistryEntry) -> Iterator[Refusal]:
    """A client speaks to registries, or to Helm repositories."""
    kind = entry.urls[0].kind
    for number, url in enumerate(entry.urls):
        if url.kind != kind:
            yield Refusal(
                "a registry and a Helm repository in one entry",
                "write an entry for each",
                at=("urls", number),
            )
    if kind == "helm" and entry.credential_helper not in (None, "oauth2"):
        yield Refusal(
            "is about registries of a cloud, and this is a Helm repository",
            "drop it, and give a user and password in credentialsFile",
            at=("credentialHelper",),
        )


def _timing_contradictions(entry: RegistryEntry) -> Iterator[Refusal]:
    if entry.schedule is not None and entry.poll_interval is not None:
        found = "schedule and pollInterval both say when to poll"
        yield Refusal(found, "drop one of the two", at=("schedule",), involves=("pollInterval",))
    if entry.schedule is None and entry.time_zone is not None:
        yield Refusal(
            "timeZone is that of schedule, which is missing",
            "add e.g. schedule: '30 3 * * *', or drop timeZone",
            at=("timeZone",),
            involves=("schedule",),
        )


def _form_contradictions(entry: RegistryEntry) -> Iterator[Refusal]:
    if "preserve_digest" not in entry.model_fields_set or not entry.preserve_digest:
        return
    for number, rule in enumerate(entry.content):
        if rule.convert:
            yield Refusal(
                "preserveDigest is true, and convert gives the tag another digest",
                "drop one of the two (the original can be pulled by its digest anyway)",
                at=("content", number, "convert"),
                involves=("preserveDigest",),
            )


def _renaming_contradictions(entry: RegistryEntry) -> Iterator[Refusal]:
    for number, rule in enumerate(entry.content if entry.on_demand else ()):
        if rule.tags is not None and rule.tags.rename is not None:
            yield Refusal(
                "the tag that a client asks for cannot be turned back into the upstream's",
                "drop rename, or write a registry entry of its own for it, without onDemand",
                at=("content", number, "tags", "rename"),
                involves=("onDemand",),
            )


def _token_contradictions(entry: RegistryEntry) -> Iterator[Refusal]:
    if any(url.scheme == "http" for url in entry.urls):
        return
    for number, service in enumerate(entry.token_services):
        if service.startswith("http://"):
            yield Refusal(
                "a token service without TLS sees no credentials of a registry with TLS",
                f"write 'https://{service.removeprefix('http://')}'",
                at=("tokenServices", number),
                involves=("urls",),
            )


def _retry_contradictions(entry: RegistryEntry) -> Iterator[Refusal]:
    if entry.max_retries and entry.retry_delay is None:
        yield Refusal(
            "retryDelay is required with maxRetries",
            "add e.g. retryDelay: '5m'",
            at=("maxRetries",),
            involves=("retryDelay",),
        )
    if entry.max_retry_delay is None:
        return
    if entry.retry_delay is None:
        yield Refusal(
            "retryDelay is required with maxRetryDelay",
            "add e.g. retryDelay: '5m'",
            at=("maxRetryDelay",),
            involves=("retryDelay",),
        )
    elif entry.max_retry_delay < entry.retry_delay:
        yield Refusal(
            "maxRetryDelay is shorter than retryDelay",
            "write a longer one, or drop it",
            at=("maxRetryDelay",),
            involves=("retryDelay",),
        )
