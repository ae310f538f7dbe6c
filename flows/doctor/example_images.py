"""An image to ask for: one that the profile names, or that the store has, or that everybody knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from profiles.matching import literal_repositories, matches_repository
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from profiles.model.registry_entry import RegistryEntry
    from profiles.values.upstream_url import UpstreamUrl
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.repository_reader import RepositoryReader
    from registry_server.store.store import Store

_WELL_KNOWN = ("library/alpine", "alpine")  # of Docker Hub, whose HEADs are free
_REPOSITORIES, _TAGS = 50, 20  # that are looked at for one that is whole


@dataclass(frozen=True, slots=True)
class StoredExample:
    """An image of the store that is all here; `blob` is one that a client would ask for (its config).

    `registry` and `source` are where it came from, "" for a push.
    """

    repository: RepositoryName
    tag: str
    manifest: Digest
    blob: Digest
    registry: str = ""
    source: str = ""


def upstream_example(
    entry: RegistryEntry, url: UpstreamUrl, store: Store | None, listed: tuple[str, ...]
) -> tuple[str, str]:
    """An upstream repository and perhaps a tag or digest in it; "" for what nobody knows.

    `listed` is what a catalog has.
    """
    for rule in entry.content:
        for image in rule.images:
            return str(image.repository), str(image.reference)
        for name in literal_repositories(rule):
            return name, ""
    for name, tag in _kept(entry, store):
        return name, tag
    known = (*listed, *(_WELL_KNOWN if url.is_docker_hub else ()))
    for name in known:
        if not entry.content or any(matches_repository(rule, name) for rule in entry.content):
            return name, ""
    return "", ""


def _kept(entry: RegistryEntry, store: Store | None) -> Iterator[tuple[str, str]]:
    if store is None:
        return
    for name in store.repositories()[:_REPOSITORIES]:
        for tag, record in store.repository(name).tag_records().items():
            if record.origin is not None and record.origin.registry == entry.name:
                yield record.origin.repository, str(tag)


def stored_example(store: Store, entries: Collection[str]) -> StoredExample | None:
    """Any image that is whole; one that came from one of these registry entries, if there is one."""
    other: StoredExample | None = None
    for name in store.repositories()[:_REPOSITORIES]:
        repository = store.repository(name)
        for tag, record in list(repository.tag_records().items())[:_TAGS]:
            if (blob := _config(repository, record.digest)) is None:
                continue
            held = StoredExample(name, str(tag), record.digest, blob)
            if record.origin is not None and record.origin.registry in entries:
                return replace(held, registry=record.origin.registry, source=record.origin.repository)
            other = other or held
    return other


def _config(repository: RepositoryReader, digest: Digest) -> Digest | None:
    """The config of the manifest, or of the first child that is here."""
    try:
        descriptor, body = repository.read_manifest(digest)
        manifest = parse_manifest(body, descriptor.media_type)
    except MirrorflowError:
        return None
    if manifest.config is not None:
        return manifest.config.digest if repository.has_blob(manifest.config.digest) else None
    here = (child.digest for child in manifest.manifests if repository.has_blob(child.digest))
    return next(filter(None, (_config(repository, child) for child in here)), None)
