"""Warnings about how a registry entry reaches its upstream, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.errors import Finding, Severity
from profiles.matching import needs_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.loading.key_names import KeyPath
    from profiles.model.content_rule import ContentRule
    from profiles.model.sync import RegistryEntry, Sync

# Registries that nobody runs a mirror of under another of these names.
_PUBLIC = {
    "docker.io", "quay.io", "ghcr.io", "gcr.io", "k8s.gcr.io", "registry.k8s.io", "public.ecr.aws",
    "mcr.microsoft.com", "registry.gitlab.com", "nvcr.io", "registry.redhat.io", "docker.elastic.co",
}  # fmt: skip

_Found = tuple["KeyPath", str, str]


def check(sync: Sync) -> Iterator[_Found | Finding]:
    """Path, what was found, what to write instead."""
    for number, entry in enumerate(sync.registries):
        path: KeyPath = ("sync", "registries", number)
        yield from _on_schedule(entry, path)
        yield from _on_urls(entry, path)
        yield from _on_options(entry, path)


def _on_schedule(entry: RegistryEntry, path: KeyPath) -> Iterator[Finding]:
    """An entry with content that is neither polled nor on demand is for `mirrorflow sync`, run by cron."""
    key = "pollInterval" if entry.schedule is None else "schedule"
    polled = entry.poll_interval is not None or entry.schedule is not None
    write = "add content, e.g. [{prefix: '**'}]"
    if not polled and not entry.on_demand and not entry.content:
        found = f"{entry.name!r} has neither content nor onDemand: nothing is mirrored"
        yield Finding.takes_nothing(path, found, f"{write}, or 'onDemand: true'")
    if polled and not entry.content:
        severity = Severity.ADVICE if entry.on_demand else Severity.TAKES_NOTHING
        yield Finding((*path, key), f"{entry.name!r} has no content: nothing is polled", write, severity)
    if polled and entry.urls[0].is_docker_hub and needs_catalog(entry):
        yield from _on_docker_hub(entry, path)


def _on_docker_hub(entry: RegistryEntry, path: KeyPath) -> Iterator[Finding]:
    for number, rule in enumerate(entry.content):
        if not rule.images and not rule.prefix_pattern.static:
            found = f"Docker Hub has no catalog, so polling cannot find what {rule.prefix.text!r} means"
            write = "list repositories one by one ('library/alpine'), or use onDemand without pollInterval"
            yield Finding.takes_nothing((*path, "content", number, "prefix"), found, write)


def _on_urls(entry: RegistryEntry, path: KeyPath) -> Iterator[_Found]:
    registries = {url.registry for url in entry.urls} & _PUBLIC
    if len(registries) > 1:
        yield (
            (*path, "urls"),
            f"{' and '.join(sorted(registries))} are different registries, and urls are several ways to one",
            "make a registry entry for each",
        )
    for number, url in enumerate(entry.urls):
        if url.is_loopback and url.scheme_assumed:
            found = f"is taken as {url}, and a registry on this machine mostly speaks plain http"
            yield (*path, "urls", number), found, f"write 'http://{url.host}' or '{url}'"
        for rule in entry.content:
            if url.path_prefix and not url.is_docker_hub and _repeats(url.path_prefix, rule):
                found = f"its path stands before every repository name, and {rule.prefix.text!r} repeats it"
                write = f"write '{url.base}', or leave {url.path_prefix!r} out of the prefix"
                yield (*path, "urls", number), found, write


def _repeats(path_prefix: str, rule: ContentRule) -> bool:
    base = rule.prefix_pattern.base
    return base == path_prefix or base.startswith(f"{path_prefix}/")


def _on_options(entry: RegistryEntry, path: KeyPath) -> Iterator[_Found]:
    if entry.shards > entry.req_concurrent:
        found = (
            f"each shard makes a request at a time, together more than reqConcurrent: {entry.req_concurrent}"
        )
        yield (*path, "shards"), found, f"write at most that many, or 'reqConcurrent: {entry.shards}'"
    if entry.only_signed and entry.urls[0].kind == "helm":
        found = "charts of a Helm repository have no signature that a registry would have: none is taken"
        yield (*path, "onlySigned"), found, "drop it; provenance files are kept for `helm pull --verify`"
    elif entry.only_signed:
        found = "it looks whether there is a signature, and not whose: anybody can sign"
        yield (*path, "onlySigned"), found, "say whom to trust in `verify`, see docs/trust.md"
    if entry.cert_dir is not None and not entry.cert_dir.is_dir():
        found = f"there is no folder {str(entry.cert_dir)!r}: no certificate of its will be used"
        yield (*path, "certDir"), found, "correct the path, or drop it"
    if entry.cert_dir is not None and all(url.scheme == "http" for url in entry.urls):
        yield (*path, "certDir"), "no URL of this entry is https", "write https:// in urls, or drop it"
