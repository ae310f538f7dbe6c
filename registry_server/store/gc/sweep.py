"""The sweeping half of garbage collection: pool files that nobody needs, through the trash."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from registry_server.store.gc.gc_report import Removal
from registry_server.store.gc.leftovers import leftovers
from registry_server.store.gc.mark import digests_in
from registry_server.store.mirror_state.snapshots import kept_digests
from registry_server.store.pool.blob_pool import blob_of
from registry_server.store.repository_reader import AREAS
from registry_server.store.spool.upload_sessions import Uploads
from registry_server.store.store import repositories_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.gc.collector import Care
    from registry_server.store.gc.gc_report import GcReport
    from registry_server.store.gc.mark import AgeLimits
    from registry_server.store.pool.blob_pool import Trashed
    from registry_server.store.storage_root import StorageRoot
    from registry_server.store.store import Store

Item = TypeVar("Item")
_BATCH: Final = 200  # blobs that go into the trash, or out of it, in one step
Pinned = Mapping[str, Collection[str]]


@dataclass(slots=True)
class Sweep:
    """One sweep of one pool. `need` collects what stays; only then comes `purge`, and only then `sweep`."""

    root: StorageRoot
    ages: AgeLimits
    care: Care
    report: GcReport
    found: int = 0
    _needed: set[bytes] = field(default_factory=set)
    _kept: dict[str, set[str]] | None = None

    def pinned(self, store: Store, name: RepositoryName, *, anew: bool = False) -> set[str]:
        """Digests that stay without a tag: those that the profile, a last poll or a snapshot names.

        `anew`: snapshots are read again. Raises `StoreDamaged`.
        """
        named: set[str] = set()
        for poll in store.repository(name).polls():
            named.update((*poll.upstream, *poll.upstream.values(), *poll.problems))
        if self._kept is None or anew:
            self._kept = kept_digests(store)
        kept = self._kept.get(name, set())
        return {each for each in named if ":" in each} | {*self.care.pinned.get(name, ())} | kept

    def need(self, digests: Iterable[str]) -> None:
        self._needed.update(_key(digest) for digest in digests)

    def leftovers(self) -> None:
        """Before anything else: on a full disk this makes the room that the rest needs."""
        for each in leftovers(self.root.folder, self.ages.young, now=self.ages.now):
            if self.care.dry_run or each.remove():
                self.report.leftovers += 1
                self.care.told(each.removal)
        care = self.care
        for session in Uploads(self.root.spool).expire(
            idle=care.session_idle, empty=care.session_empty, dry_run=care.dry_run
        ):
            self.report.leftovers += 1
            care.told(Removal("leftover", f"uploads/{session}", "an abandoned upload"))

    def purge(self) -> None:
        """Empty the trash of earlier collections, but for what is needed again."""
        trash = self.root.pool.trash
        if not self.care.dry_run:  # markers that would be gone are still there
            self.need(self._marked())
        for some in _batches(trash.content()):
            self._purge(some)
        trash.tidy()

    def sweep(self) -> None:
        """Throw away what is old and not needed."""
        for some in _batches(self._unneeded()):
            sizes = dict(some)
            taken = sizes if self.care.dry_run else self.root.pool.trash.take(sizes)
            self.found += len(taken)
            for digest in taken:
                self.report.trashed += 1
                self.report.trashed_bytes += sizes[digest]
                self.care.told(Removal("blob", digest, "no repository holds it", sizes[digest]))

    def check_again(self) -> None:
        """What was marked while we swept comes back."""
        marked = {_key(digest) for digest in self._marked()}
        for each in [*self.root.pool.trash.content()]:
            if each.digest is not None and _key(each.digest) in marked:
                self._restore(each.digest)

    def _purge(self, some: Sequence[Trashed]) -> None:
        useless = []
        for each in some:
            if each.digest is None or _key(each.digest) not in self._needed:
                useless.append(each)
            elif not self.care.dry_run:
                self._restore(each.digest)
        trash = self.root.pool.trash
        self.report.purged += len(useless)
        self.report.purged_bytes += (trash.size if self.care.dry_run else trash.purge)(useless)

    def _restore(self, digest: Digest) -> None:
        self.report.restored += self.root.pool.trash.give_back(digest)

    def _unneeded(self) -> Iterator[tuple[Digest, int]]:
        for key, found in self.root.objects.walk("blobs"):
            digest = blob_of(key)
            if digest is None or _key(digest) in self._needed:
                self.report.kept += digest is not None
            elif found.modified < self.ages.young:
                yield digest, found.size

    def _marked(self) -> Iterator[str]:
        """Every digest that a repository, or a writer's intent, has a marker for. Raises OSError."""
        self.root.require_present()
        yield from self.root.pool.trash.intents()
        for name in repositories_of(self.root):
            for area in AREAS:
                yield from digests_in(self.root.objects, f"repos/{name}/{area}/blobs")
                yield from digests_in(self.root.objects, f"repos/{name}/{area}/manifests")


def repositories_of(root: StorageRoot) -> list[RepositoryName]:
    """Every repository of a root, also one that the store's subpaths leave out now. Raises OSError."""
    found = sorted(repositories_in(root.objects, "repos"))
    root.require_present()  # after the look: what has disappeared meanwhile was not seen
    return found


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while some := list(islice(left, _BATCH)):
        yield some


def _key(digest: str) -> bytes:
    """Half the memory of the text."""
    return bytes.fromhex(digest.partition(":")[2])
