"""What a tag stands on: everything that is reached from its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from registry_server.oci.errors import ManifestUnknown, MirrorflowError, NotFound
from registry_server.oci.manifest import parse_manifest

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository_reader import RepositoryReader


def first_tag_on(repository: RepositoryReader, digest: Digest, tagged: Mapping[Tag, TagRecord]) -> Tag | None:
    """A tag of `tagged` whose closure holds `digest`; None if there is none.

    Reads each manifest once. What a tag declares as sparse is not a part of its closure: not of its own.
    """
    seen: set[tuple[Digest, tuple[Digest, ...]]] = set()
    for tag, record in ((tag, each) for tag, found in tagged.items() for each in _named_by(found)):
        queue = [*record.roots]
        while queue:
            current = queue.pop()
            if current == digest:
                return tag
            if (current, record.sparse) in seen:  # another tag on it may leave out less
                continue
            seen.add((current, record.sparse))
            parts = _parts_of(repository, current)
            if digest in parts.all and digest not in record.sparse:
                return tag
            queue += parts.children.difference(record.sparse)
    return None


def _named_by(record: TagRecord) -> Iterator[TagRecord]:
    """What a tag names, and what it is about to name."""
    yield record
    if record.pending is not None and record.pending.record is not None:
        yield record.pending.record


def manifests_below(repository: RepositoryReader, roots: Iterable[Digest]) -> list[Digest]:
    """The manifests here that these lead to, themselves included, children first."""
    found: dict[Digest, None] = {}
    queue = list(roots)
    while queue:
        digest = queue.pop()
        if digest in found:
            continue
        try:
            manifest = _read(repository, digest)
        except MirrorflowError:  # left out on purpose, or damaged
            continue
        found[digest] = None
        queue += [child.digest for child in manifest.manifests]
    return list(reversed(found))


def blobs_of(repository: RepositoryReader, digest: Digest) -> set[Digest]:
    """What a manifest here names; nothing for one that cannot be read."""
    try:
        return {blob.digest for blob in _read(repository, digest).blobs}
    except MirrorflowError:
        return set()


@dataclass(frozen=True, slots=True)
class Absent:
    """What a closure names that is not here."""

    manifests: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()

    @property
    def all(self) -> tuple[Digest, ...]:
        return self.manifests + self.blobs


def absent_from(repository: RepositoryReader, manifest: Manifest) -> Absent:
    """What is missing below `manifest`, which need not be here itself. Foreign layers are not missed."""
    manifests: dict[Digest, None] = {}
    blobs: dict[Digest, None] = {}
    seen: set[Digest] = set()
    queue = [manifest]
    while queue:
        current = queue.pop()
        children = {child.digest for child in current.manifests}
        missing = {each.digest: None for each in repository.missing(current)}
        manifests |= {digest: None for digest in missing if digest in children}
        blobs |= {digest: None for digest in missing if digest not in children}
        queue += [
            _read(repository, each)
            for each in sorted(children - missing.keys() - seen)
            if _is(repository, each)
        ]
        seen |= children
    return Absent(tuple(manifests), tuple(blobs))


def missing_of(repository: RepositoryReader, record: TagRecord) -> list[Digest]:
    """What the closure of a tag lacks; each manifest is looked at once, so cycles end.

    Raises `ManifestUnknown` for a root that is not here.
    """
    queue: list[Descriptor] = []
    for root in record.roots:
        found = repository.manifest_record(root)
        if found is None:
            raise ManifestUnknown(f"there is no manifest {repository.name}@{root} to be tagged")
        queue.append(found)
    seen = set(record.sparse)
    missing: list[Digest] = []
    while queue:
        descriptor = queue.pop()
        if descriptor.digest not in seen:
            seen.add(descriptor.digest)
            lacking, children = _look_into(repository, descriptor, seen)
            missing += lacking
            queue += children
    return missing


def _look_into(
    repository: RepositoryReader, descriptor: Descriptor, seen: Container[Digest]
) -> tuple[list[Digest], Iterable[Descriptor]]:
    """What one manifest lacks, and which manifests it has."""
    manifest = parse_manifest(repository.body_of(descriptor.digest), descriptor.media_type)
    lacking = [each.digest for each in repository.missing(manifest) if each.digest not in seen]
    children = (repository.manifest_record(each.digest) for each in manifest.manifests)
    return lacking, [child for child in children if child and child.digest not in lacking]


def _is(repository: RepositoryReader, digest: Digest) -> bool:
    """Whether it is a manifest here: an entry of an index may be a blob."""
    try:
        repository.find_manifest(digest)
    except NotFound:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a manifest names, and which of that are manifests."""

    all: frozenset[Digest] = frozenset()
    children: frozenset[Digest] = frozenset()


# A digest always names the same parts; without this, who deletes all manifests of a repository one by one
# makes us read all of them each time. Emptied when it is full: then one look costs as much as the first.
_MOST_KEPT: Final = 30_000
_kept: dict[Digest, _Parts] = {}


def _parts_of(repository: RepositoryReader, digest: Digest) -> _Parts:
    """Nothing for a manifest that is not here, or cannot be read."""
    kept = _kept.get(digest)
    if kept is not None:
        return kept
    try:
        found = _read(repository, digest)
    except MirrorflowError:
        return _Parts()
    children = frozenset(child.digest for child in found.manifests)
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    parts = _kept[digest] = _Parts(children | {blob.digest for blob in found.blobs}, children)
    return parts


def _read(repository: RepositoryReader, digest: Digest) -> Manifest:
    descriptor, body = repository.read_manifest(digest)
    return parse_manifest(body, descriptor.media_type)
