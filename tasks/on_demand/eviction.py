"""A cache that does not grow for ever (`cache` of a registry entry): least recently pulled goes first.

Given up are tags that came on demand from the entry, and nothing else: what a poll takes too, and what
clients pushed, stays. The bytes are garbage collection's, so that a pull that has begun still ends well.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.matching import sources
from profiles.tag_filter import why_not_taken
from registry_server.oci.companion_tags import subject_of
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.store.gc.gc_report import Removal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from profiles.model.cache import Cache
    from profiles.model.profile import Profile
    from profiles.model.sync import Sync
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

    Part = tuple[str, Digest]  # the storage root, and a blob or manifest in it


@dataclass(frozen=True, slots=True)
class Cached:
    """A tag that may go, with the companions that go along; `pulled` in unix seconds, `parts` in bytes."""

    repository: RepositoryName
    tag: Tag
    digest: Digest
    pulled: float
    parts: Mapping[Part, int]
    companions: tuple[Tag, ...] = ()


def evict(
    store: Store,
    profile: Profile,
    *,
    dry_run: bool = False,
    told: Callable[[Removal], None] = lambda _: None,
    now: float | None = None,
) -> int:
    """Give up what the profile's caches do not keep; how many tags. Raises `StoreError`."""
    caches = {entry.name: entry.cache for entry in profile.sync.registries if entry.cache is not None}
    if not caches:
        return 0
    held: defaultdict[str, list[Cached]] = defaultdict(list)
    for name in store.repositories():
        for origin, cached in _cached(store, store.repository(name), profile.sync, caches):
            held[origin].append(cached)
    count = 0
    for registry, cache in caches.items():
        for cached, reason in doomed(held[registry], cache, time.time() if now is None else now):
            for tag in (cached.tag, *cached.companions):
                if dry_run or _give_up(store.repository(cached.repository), tag, cached):
                    told(Removal("tag", f"{cached.repository}:{tag}", f"cache of {registry}: {reason}"))
                    count += 1
    return count


def doomed(held: Iterable[Cached], cache: Cache, now: float) -> Iterator[tuple[Cached, str]]:
    """What goes, and why, the least recently pulled first. What images share goes with the last of them."""
    oldest = sorted(held, key=lambda each: (each.pulled, each.repository, each.tag))
    users = Counter(part for each in oldest for part in each.parts)
    total = sum({part: size for each in oldest for part, size in each.parts.items()}.values())
    for each in oldest:
        idle = now - each.pulled
        if cache.max_idle is not None and idle > cache.max_idle:
            reason = f"not pulled for {idle / 86400:.1f} days"
        elif cache.max_size is not None and total > cache.max_size:
            reason = f"{total:,} bytes are more than maxSize, and it was pulled least recently"
        else:
            break
        yield each, reason
        users.subtract(each.parts.keys())
        total -= sum(size for part, size in each.parts.items() if not users[part])


def _cached(
    store: Store, repository: Repository, sync: Sync, caches: Mapping[str, Cache]
) -> Iterator[tuple[str, Cached]]:
    """The tags of one repository that may go, with the name of the entry that they came from."""
    records = repository.tag_records()
    companions = {tag: subject for tag in records if (subject := subject_of(tag)) is not None}
    images = {root for tag, record in records.items() if tag not in companions for root in record.roots}
    root = store.root_of(repository.name).folder
    for tag, record in records.items():
        # A companion stays with its image, and goes with it.
        if companions.get(tag) in images or not _may_go(record, caches):
            continue
        if is_polled(sync, repository.name, tag):
            continue
        parts = {(root, digest): size for digest, size in _parts(repository, record).items()}
        also = tuple(
            each
            for each, subject in companions.items()
            if subject in record.roots and _may_go(records[each], caches)
        )
        assert record.origin is not None
        pulled = _last_pull(repository, tag, record)
        yield record.origin.registry, Cached(repository.name, tag, record.digest, pulled, parts, also)


def _may_go(record: TagRecord, caches: Mapping[str, Cache]) -> bool:
    origin = record.origin
    return origin is not None and origin.on_demand and origin.registry in caches


def is_polled(sync: Sync, local: RepositoryName, tag: Tag) -> bool:
    """Whether a poll, or a sync by hand, takes a tag too: it would only bring it back."""
    return any(
        rule is not None and not why_not_taken(rule, source, tag)
        for entry in sync.registries
        if entry.is_synced
        for rule, source in sources(entry, local)
    )


def _last_pull(repository: Repository, tag: Tag, record: TagRecord) -> float:
    """By tag or by digest; what was never pulled counts as pulled when it came."""
    return max(repository.pulled(tag), *(repository.pulled(root) for root in record.roots), record.pushed)


def _parts(repository: Repository, record: TagRecord) -> dict[Digest, int]:
    """The bytes that are here for a tag: manifests, blobs, and what refers to them."""
    parts: dict[Digest, int] = {}
    queue = list(record.roots)
    while queue:
        digest = queue.pop()
        if digest in parts:
            continue
        try:
            descriptor, body = repository.read_manifest(digest)
            manifest = parse_manifest(body, descriptor.media_type)
        except MirrorflowError:  # left out on purpose, or damaged: it takes no room that could be given back
            continue
        parts[digest] = len(body)
        parts |= {each.digest: each.size for each in manifest.blobs if repository.has_blob(each.digest)}
        queue += [each.digest for each in (*manifest.manifests, *repository.referrers(digest))]
    return parts


def _give_up(repository: Repository, tag: Tag, cached: Cached) -> bool:
    """Unless it has become something else since we looked."""
    record = repository.tag(tag)
    if record is None or (tag == cached.tag and record.digest != cached.digest):
        return False
    repository.delete_tag(tag)
    return True
