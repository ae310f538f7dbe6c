"""What belongs to what in a repository: which manifest led to a child manifest or a blob.

A digest by itself is no right to anything: what is fetched by digest is what a manifest of the repository
names (or what a rule takes by digest), and it is fetched from where that manifest came from. Read back from
the store, so that a restart in the middle of an image changes nothing.

Only the entries of an index lead to manifests: its verdict covers them (invariant 4). A layer, a config or a
subject is a blob, whatever its descriptor says of its type, or nothing: a user with push rights
chooses what stands there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profiles.image_parts import ALL_PARTS, wanted_children
from registry_server.oci import media_types
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.store.repository_reader import held_manifests, manifests_changed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.on_demand.routing import Candidate

_MOST_REPOSITORIES = 1000


@dataclass(frozen=True, slots=True)
class Parent:
    """The descriptor that names a digest, the manifest that it is in, and where that came from, if known."""

    descriptor: Descriptor
    parent: Digest
    bringer: Candidate | None


@dataclass(slots=True)
class _Family:
    read: set[Digest] = field(default_factory=set)
    manifests: dict[Digest, Parent] = field(default_factory=dict)
    blobs: dict[Digest, Parent] = field(default_factory=dict)
    stamp: str | None = None


class ContentIndex:
    """By repository; the least recently used are forgotten, and read again. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._families: OrderedDict[RepositoryName, _Family] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, local: RepositoryName, digest: Digest, manifest: Manifest, by: Candidate) -> None:
        """A manifest that was just stored."""
        with self._lock:
            self._learn(self._family(local), digest, manifest, by)

    def find_manifest(
        self, local: RepositoryName, digest: Digest, found: Sequence[Candidate]
    ) -> Parent | None:
        """The index here that has this entry; `found`: the repository's candidates, for their platforms."""
        return self._find(local, digest, found, lambda family: family.manifests)

    def find_blob(self, local: RepositoryName, digest: Digest, found: Sequence[Candidate]) -> Parent | None:
        """The manifest here that needs this blob."""
        return self._find(local, digest, found, lambda family: family.blobs)

    def _find(
        self,
        local: RepositoryName,
        digest: Digest,
        found: Sequence[Candidate],
        leads: Callable[[_Family], dict[Digest, Parent]],
    ) -> Parent | None:
        with self._lock:
            family = self._family(local)
            repository = self._store.repository(local)
            lead = leads(family).get(digest)
            if lead is not None and not repository.has_blob(lead.parent):
                # Deleted, or evicted: its parts are what the manifests name that are here now.
                family = self._families[local] = _Family()
                lead = None
            if lead is None:
                stamp = manifests_changed(repository)
                if stamp != family.stamp:
                    self._read_new(family, repository, found)
                    family.stamp = stamp
                lead = leads(family).get(digest)
            return lead

    def _family(self, local: RepositoryName) -> _Family:
        family = self._families.setdefault(local, _Family())
        self._families.move_to_end(local)
        while len(self._families) > _MOST_REPOSITORIES:
            self._families.popitem(last=False)
        return family

    def _read_new(self, family: _Family, repository: Repository, found: Sequence[Candidate]) -> None:
        by = _came_from(repository, found)
        for digest in held_manifests(repository):
            if digest in family.read:
                continue
            try:
                descriptor, body = repository.read_manifest(digest)
                self._learn(family, digest, parse_manifest(body, descriptor.media_type), by)
            except MirrorflowError:  # removed meanwhile, or damaged: it leads nowhere
                family.read.add(digest)

    def _learn(self, family: _Family, digest: Digest, manifest: Manifest, by: Candidate | None) -> None:
        family.read.add(digest)
        parts = by.parts if by is not None else ALL_PARTS
        # What the rule's platforms leave out is not handed out either.
        entries = wanted_children(manifest, parts)
        # An entry of an index may be a blob (BuildKit's caches).
        blobs = [
            *manifest.blobs_with(foreign=parts.foreign),
            *(each for each in entries if each.media_type not in media_types.MANIFESTS),
        ]
        for leads, named in ((family.manifests, entries), (family.blobs, blobs)):
            for descriptor in named:
                if parts.foreign or not descriptor.is_foreign:
                    leads.setdefault(descriptor.digest, Parent(descriptor, digest, by))


def _came_from(repository: Repository, found: Sequence[Candidate]) -> Candidate | None:
    """Of several candidates the one that the tags here came from; else the first."""
    origins = {
        (record.origin.registry, record.origin.repository)
        for record in repository.tag_records().values()
        if record.origin
    }
    for candidate in found:
        if (candidate.entry.name, candidate.source) in origins:
            return candidate
    return found[0] if found else None


def led(lead: Parent, found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Where the manifest came from that names it, if the profile still has that; else all."""
    bringer = lead.bringer
    same = [
        each
        for each in found
        if bringer and (each.entry.name, each.source) == (bringer.entry.name, bringer.source)
    ]
    return tuple(same) or tuple(found)
