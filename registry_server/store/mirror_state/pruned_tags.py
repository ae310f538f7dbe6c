"""Tags that were removed because their upstream deleted them, or by hand, and the way back.

One small file for each: `pruned/<repository>/_r/<tag>`. It is written before the tag goes. It says what the
tag named, and which manifests belong to it. So it can be made again while the pool or the trash has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci import media_types
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store import records
from registry_server.store.closure import manifests_below
from registry_server.store.errors import NothingToUndelete, TagMoved, translated
from registry_server.store.objects.objects import content_of
from registry_server.store.repository_reader import VISIBLE
from registry_server.store.store import repositories_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.store.objects.objects import Objects
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

_FOLDER: Final = "pruned"
_UNDER_WAY: Final = 3600.0  # seconds that a prune may take between the way back and the removal


@dataclass(frozen=True, slots=True)
class Pruned:
    """`record` is what the tag named, `manifests` what it stands on and what refers to it, children first.

    `removed` in unix seconds.
    """

    record: TagRecord
    manifests: tuple[Descriptor, ...]
    removed: float


@translated
def prune_tags(store: Store, name: RepositoryName, tags: Mapping[Tag, TagRecord], now: float) -> None:
    """Remove tags that still name what `tags` says. The bytes are left to the collector.

    Killed in between, the tag is here and its file as well, and the next call writes that anew.
    Raises `StoreError`.
    """
    repository = store.repository(name)
    for tag, record in tags.items():
        found = Pruned(record, tuple(_manifests(repository, record)), now)
        _objects(store).put(_key(name, tag), records.encode(_to_json(found)))
    _objects(store).settle()  # a power cut must not lose the way back and keep the removal
    repository.withdraw(tags, ())


@translated
def find_pruned(store: Store, name: RepositoryName, tag: Tag) -> Pruned | None:
    """Raises `StoreError`."""
    return records.decoded(content_of(_objects(store), _key(name, tag)), _from_json)


@translated
def all_pruned(store: Store) -> list[tuple[RepositoryName, Tag, Pruned]]:
    """Everything that might be brought back, in order. Raises `StoreError`."""
    return list(_all_pruned(store))


def _all_pruned(store: Store) -> Iterator[tuple[RepositoryName, Tag, Pruned]]:
    objects = _objects(store)
    for name in sorted(repositories_in(objects, _FOLDER)):
        for tag, content in objects.contents(f"{_FOLDER}/{name}/{VISIBLE}"):
            found = records.decoded(content, _from_json)
            if found and Tag.is_valid(tag):
                yield name, Tag(tag), found


def undelete(store: Store, name: RepositoryName, tag: Tag) -> TagRecord:
    """Make a removed tag again, with all that belongs to it.

    Raises `NothingToUndelete`, `ClosureIncomplete` when the collector has had a part of it, `StoreError`.
    """
    found = find_pruned(store, name, tag)
    repository = store.repository(name)
    if found is None:
        raise NothingToUndelete(f"{name}:{tag} was not removed by prune or rm, or its blobs are gone")
    free = (None, found.record)
    try:
        if repository.tag(tag) not in free:
            raise TagMoved
        _restore(repository, found)
        store.sync()
        repository.put_tag(tag, found.record, only_if=lambda held: held in free)
    except TagMoved as error:
        raise NothingToUndelete(f"{name}:{tag} names another manifest now; delete that tag first") from error
    forget_pruned(store, name, tag)
    return found.record


@translated
def forget_useless(store: Store, now: float) -> None:
    """Files of tags that are here again, or whose manifest is gone for good. Raises `StoreError`.

    A tag that still is what its file says may be about to go, by another process: its file stays an hour.
    """
    for name, tag, found in _all_pruned(store):
        repository = store.repository(name)
        record = repository.tag(tag)
        under_way = record == found.record and now - found.removed < _UNDER_WAY
        here_again = record is not None and not under_way
        if here_again or not repository.pool_keeps(found.record.digest):
            forget_pruned(store, name, tag)


@translated
def forget_pruned(store: Store, name: RepositoryName, tag: Tag) -> None:
    _objects(store).remove(_key(name, tag))


def _manifests(repository: Repository, record: TagRecord) -> list[Descriptor]:
    seen: set[Digest] = set()
    queue: list[Digest] = [*record.roots]
    found: list[Descriptor] = []
    while queue:
        below = [each for each in manifests_below(repository, [queue.pop()]) if each not in seen]
        seen.update(below)
        found += (repository.read_manifest(each)[0] for each in below)
        queue += (each.digest for digest in below for each in repository.referrers(digest))
    return found


def _restore(repository: Repository, found: Pruned) -> None:
    """What cannot be had is left out; `put_tag` says what the image lacks."""
    for descriptor in found.manifests:
        body = repository.pool_content(descriptor.digest, at_most=MAX_MANIFEST_BYTES)
        if body is None:
            continue
        try:
            manifest = parse_manifest(body, descriptor.media_type)
        except MirrorflowError:
            continue
        # An index may list blobs (BuildKit's caches).
        entries = (each for each in manifest.manifests if each.media_type not in media_types.MANIFESTS)
        for blob in (*manifest.blobs, *entries):
            repository.adopt_blob(blob.digest)
        repository.put_manifest(manifest, descriptor.digest)


def _to_json(found: Pruned) -> dict[str, Any]:
    manifests: Iterable[dict[str, Any]] = (each.to_json() for each in found.manifests)
    return {
        "record": records.tag_to_json(found.record),
        "manifests": list(manifests),
        "removed": found.removed,
    }


def _from_json(body: Any) -> Pruned:
    return Pruned(
        records.tag_from_json(body["record"]),
        tuple(records.descriptor_from_json(each) for each in body["manifests"]),
        float(body["removed"]),
    )


def _objects(store: Store) -> Objects:
    return store.roots[0].objects


def _key(name: RepositoryName, tag: Tag) -> str:
    return f"{_FOLDER}/{name}/{VISIBLE}/{tag}"
