"""How much there is: bytes, what sharing them saves, and what each repository accounts for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from registry_server.store.errors import translated
from registry_server.store.filesystem import disk as files
from registry_server.store.gc.mark import digests_in
from registry_server.store.maintenance.scrub import quarantined
from registry_server.store.pool.blob_pool import blob_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.storage_root import StorageRoot
    from registry_server.store.store import Store


@dataclass(frozen=True, slots=True)
class RepositoryStats:
    """One repository. `bytes` are all that it holds, `alone` those that nobody else holds."""

    name: str
    tags: int
    manifests: int
    blobs: int
    bytes: int
    alone: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """The whole store. `bytes` are in the pools, `saved` those that sharing them makes unnecessary."""

    blobs: int
    bytes: int
    saved: int
    incoming_bytes: int
    trash_blobs: int
    trash_bytes: int
    quarantined: int
    repositories: tuple[RepositoryStats, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@translated
def stats(store: Store) -> StoreStats:
    """Look at every pool file and every marker, once. Raises `StoreError`."""
    pools = {root.folder: dict(_pool(root)) for root in store.roots}
    holdings = {name: _holdings(store, name) for name in store.repositories()}
    holders: dict[tuple[str, str], int] = {}
    for root, _, held in holdings.values():
        for digest in held:
            holders[root, digest] = holders.get((root, digest), 0) + 1
    trash = [(root.pool.trash, [*root.pool.trash.content()]) for root in store.roots]
    saved = sum((count - 1) * pools[root].get(digest, 0) for (root, digest), count in holders.items())
    return StoreStats(
        blobs=sum(map(len, pools.values())),
        bytes=sum(sum(pool.values()) for pool in pools.values()),
        saved=saved,
        incoming_bytes=sum(_bytes_in(root.incoming.folder) for root in store.roots),
        trash_blobs=sum(len(content) for _, content in trash),
        trash_bytes=sum(each.size(content) for each, content in trash),
        quarantined=len(quarantined(store)),
        repositories=tuple(
            _of_repository(store, name, found, pools[found[0]], holders) for name, found in holdings.items()
        ),
    )


def _of_repository(
    store: Store,
    name: RepositoryName,
    found: tuple[str, int, set[str]],
    pool: Mapping[str, int],
    holders: Mapping[tuple[str, str], int],
) -> RepositoryStats:
    root, manifests, held = found
    repository = store.repository(name)
    return RepositoryStats(
        name=name,
        tags=len(repository.tags()) if repository.exists else 0,
        manifests=manifests,
        blobs=len(held) - manifests,
        bytes=sum(pool.get(digest, 0) for digest in held),
        alone=sum(pool.get(digest, 0) for digest in held if holders[root, digest] == 1),
    )


def _holdings(store: Store, name: RepositoryName) -> tuple[str, int, set[str]]:
    """Its root, how many manifests it has, and the digests of all that it holds."""
    root = store.root_of(name)
    folder = store.repository(name).folder
    manifests = digests_in(root.objects, f"{folder}/manifests")
    return root.folder, len(manifests), {*manifests, *digests_in(root.objects, f"{folder}/blobs")}


def _pool(root: StorageRoot) -> Iterator[tuple[str, int]]:
    for key, found in root.objects.walk("blobs"):
        if (digest := blob_of(key)) is not None:
            yield digest, found.size


def _bytes_in(folder: str) -> int:
    return sum(files.file_size(f"{folder}/{name}") or 0 for name in files.names(folder))
