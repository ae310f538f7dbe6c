"""The sweeping half of garbage collection: pool files that nobody needs, through the trash."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.store.blob_pool import digest_of
from registry_server.store.errors import StoreMissing
from registry_server.store.filesystem import disk as files
from registry_server.store.gc.gc_report import Removal
from registry_server.store.gc.leftovers import leftovers
from registry_server.store.gc.mark import digests_in
from registry_server.store.repository_reader import AREAS
from registry_server.store.store import folders
from registry_server.store.upload_sessions import Uploads

if TYPE_CHECKING:
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.gc.collector import Care
    from registry_server.store.gc.gc_report import GcReport
    from registry_server.store.gc.mark import AgeLimits
    from registry_server.store.storage_root import StorageRoot
    from registry_server.store.store import Store

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
    _epoch: int = 1

    def pinned(self, store: Store, name: RepositoryName) -> set[str]:
        """Digests that stay without a tag: those that the profile or a last poll of the repository names."""
        named: set[str] = set()
        for poll in store.repository(name).polls():
            named.update((*poll.upstream, *poll.upstream.values(), *poll.problems))
        return {each for each in named if ":" in each} | {*self.care.pinned.get(name, ())}

    def need(self, digests: Iterable[str]) -> None:
        self._needed.update(_key(digest) for digest in digests)

    def leftovers(self) -> None:
        """Before anything else: on a full disk this makes the room that the rest needs."""
        for each in leftovers(self.root.disk.root, self.ages.young, now=self.ages.now):
            if self.care.dry_run or each.remove():
                self.report.leftovers += 1
                self.care.told(each.removal)
        care = self.care
        for session in Uploads(self.root.disk).expire(
            idle=care.session_idle, empty=care.session_empty, dry_run=care.dry_run
        ):
            self.report.leftovers += 1
            care.told(Removal("leftover", f"uploads/{session}", "an abandoned upload"))

    def purge(self) -> None:
        """Empty the trash of earlier collections, but for what is needed again."""
        trash = self.root.pool.trash
        if not self.care.dry_run:  # markers that would be gone are still there
            self.need(self._marked())
        for epoch in trash.epochs():
            self._epoch = epoch + 1
            for name, path in trash.content(epoch):
                self._purge(name, path)
        trash.tidy()

    def sweep(self) -> None:
        """Throw away what is old and not needed."""
        trash = self.root.pool.trash
        for digest, path, size in self._unneeded():
            if not self.care.dry_run:
                if not self.found:
                    trash.open(self._epoch)
                if not trash.take(path, _file(digest), self._epoch):
                    continue
            self.found += 1
            self.report.trashed += 1
            self.report.trashed_bytes += size
            self.care.told(Removal("blob", digest, "no repository holds it", size))

    def check_again(self) -> None:
        """What was marked while we swept comes back."""
        marked = {_key(digest) for digest in self._marked()}
        for name, path in self.root.pool.trash.content(self._epoch):
            digest = digest_of(name)
            if digest is not None and _key(digest) in marked and files.is_file(path):
                self._restore(digest)

    def _purge(self, name: str, path: str) -> None:
        digest, size = digest_of(name), files.file_size(path) or 0
        if digest is not None and _key(digest) in self._needed:
            if not self.care.dry_run:
                self._restore(digest)
            return
        if not self.care.dry_run:
            files.remove(path)
        self.report.purged += 1
        self.report.purged_bytes += size

    def _restore(self, digest: str) -> None:
        self.report.restored += self.root.pool.restore(Digest(digest))

    def _unneeded(self) -> Iterator[tuple[str, str, int]]:
        for algorithm in ("sha256", "sha512"):
            base = f"{self.root.disk.root}/blobs/{algorithm}"
            for shard in files.names(base):
                yield from self._unneeded_in(algorithm, f"{base}/{shard}")

    def _unneeded_in(self, algorithm: str, folder: str) -> Iterator[tuple[str, str, int]]:
        with os.scandir(folder) as entries:
            found = [(each.name, each.path) for each in entries]
        for name, path in found:
            digest = digest_of(f"{algorithm}-{name}")
            if digest is None or _key(digest) in self._needed:
                self.report.kept += digest is not None
                continue
            there = os.lstat(path)
            if there.st_mtime < self.ages.young:
                yield digest, path, there.st_size

    def _marked(self) -> Iterator[str]:
        """Every digest that a repository, or a writer's intent, has a marker for. Raises OSError."""
        root = self.root.disk.root
        if not files.is_file(f"{root}/format.json"):
            raise StoreMissing(
                f"the store {root} disappeared during garbage collection; check that its volume is mounted"
            )
        for name in files.names(f"{root}/staging"):
            digest = digest_of(name.partition(".")[2])
            if digest is not None:
                yield digest
        for name in repositories_in(root):
            for area in AREAS:
                yield from digests_in(f"{root}/repos/{name}/{area}/blobs")
                yield from digests_in(f"{root}/repos/{name}/{area}/manifests")


def repositories_in(root: str) -> list[RepositoryName]:
    """Every repository of a root, also one that the store's subpaths leave out now. Raises OSError."""
    if not files.is_folder(f"{root}/repos"):
        raise StoreMissing(f"{root}/repos has disappeared; check that its volume is mounted")
    return sorted(folders(f"{root}/repos"))


def _key(digest: str) -> bytes:
    """Half the memory of the text."""
    return bytes.fromhex(digest.partition(":")[2])


def _file(digest: str) -> str:
    return digest.replace(":", "-", 1)
