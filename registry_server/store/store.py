"""The store: what the mirror fills and the server serves; one storage root or several.

Files are the truth, and none is shared and rewritten: any number of processes and threads write at once.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName
from registry_server.store import records
from registry_server.store.errors import StoreError, StoreNotShareable, translated
from registry_server.store.mirror_state.receivers import ReceiverRecords
from registry_server.store.mirror_state.run_reports import Reports
from registry_server.store.objects.objects import content_of
from registry_server.store.remote_root import open_remote_root
from registry_server.store.repository import Repository
from registry_server.store.repository_reader import AREAS, HIDDEN, VISIBLE
from registry_server.store.spool.upload_sessions import Uploads
from registry_server.store.storage_root import StorageRoot, open_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from registry_server.oci.digest import Digest
    from registry_server.store.filesystem.durability import Durability
    from registry_server.store.filesystem.process_identity import ProcessIdentity
    from registry_server.store.filesystem.shared_filesystem import SharedFileSystem
    from registry_server.store.objects.objects import Objects
    from registry_server.store.remote_storage import RemoteStorage


class Store:
    """One store. Made by `Store.open`, shared by all threads of a process."""

    def __init__(self, main: StorageRoot, by_segment: Mapping[str, StorageRoot]) -> None:
        self.root = Path(main.folder)
        self.uuid = main.uuid
        self.reports = Reports(main.objects)
        self.receivers = ReceiverRecords(main.objects)
        self._main = main
        self._by_segment = by_segment
        self._roots = list({each.folder: each for each in (main, *by_segment.values())}.values())
        self._uploads = {root.folder: Uploads(root.spool, may_lag=root.may_lag) for root in self._roots}

    @classmethod
    @translated
    def open(
        cls,
        root: Path,
        *,
        subpaths: Mapping[str, Path] | None = None,
        durability: Durability = "batch",
        create: bool = True,
        shared_file_system: SharedFileSystem = "auto",
        remote: RemoteStorage | None = None,
    ) -> Store:
        """Open the store in `root`, and make it if `create`.

        `subpaths`: "/kube-proxy" -> another root, for repositories whose first part is `kube-proxy`; it holds
        them under their full names. `shared_file_system`: what the operator says of the file system (see
        `require_shareable`). `remote`: where the store is if not in `root`, which then is the local folder of
        what is on its way in; subpaths stay folders.

        Raises `StoreMissing`, `StoreTooNew`, `StoreUnwritable`, `StoreDamaged`, `StoreUnreachable`.
        """
        opened: dict[str, StorageRoot] = {}

        def once(path: Path) -> StorageRoot:
            real = os.path.realpath(path)
            if real not in opened:
                opened[real] = open_root(real, durability, create=create, shared=shared_file_system)
            return opened[real]

        real = os.path.realpath(root)
        main = opened[real] = (
            open_root(real, durability, create=create, shared=shared_file_system)
            if remote is None
            else open_remote_root(real, remote, create=create)
        )
        return cls(main, {_segment(key): once(path) for key, path in (subpaths or {}).items()})

    def repository(self, name: RepositoryName) -> Repository:
        """The repository `name`, whether it exists or not."""
        return Repository(name, self._root_of(name), self._main)

    def hidden(self, name: RepositoryName) -> Repository:
        """What the repository keeps and does not serve (see `Repository.withdraw`)."""
        return Repository(name, self._root_of(name), self._main, HIDDEN)

    @translated
    def holder(self, digest: Digest) -> RepositoryName | None:
        """Some repository that holds the blob `digest`; None when there is none."""
        if all(root.pool.size(digest) is None for root in self._roots):
            return None
        for root in self._roots:
            for name in repositories_in(root.objects, "repos"):
                if self._root_of(name) is root and self.repository(name).has_blob(digest):
                    return name
        return None

    def uploads(self, name: RepositoryName) -> Uploads:
        """The upload sessions of the root that `name` is in."""
        return self._uploads[self._root_of(name).folder]

    @translated
    def expire_uploads(self, *, idle: float, empty: float) -> None:
        """`Uploads.expire` in all roots."""
        for each in self._uploads.values():
            each.expire(idle=idle, empty=empty)

    @translated
    def repositories(self) -> list[RepositoryName]:
        """All that hold a manifest or a tag, in ASCII order of their full names."""
        return self._holding(VISIBLE)

    @translated
    def hiding(self) -> list[RepositoryName]:
        """All that keep something that they do not serve, in ASCII order."""
        return self._holding(HIDDEN)

    def _holding(self, area: str) -> list[RepositoryName]:
        found = {
            name
            for root in self._roots
            for name in repositories_in(root.objects, "repos")
            if self._root_of(name) is root and _holds(root.objects, name, area)
        }
        return sorted(found)

    @translated
    def polled(self) -> list[RepositoryName]:
        """All that a poll was ever recorded for, whether anything of them is here or not; in ASCII order."""
        objects = self._main.objects
        return sorted(
            name for name in repositories_in(objects, "polls") if objects.look(f"polls/{name}/_r.json")
        )

    @translated
    def sync(self) -> None:
        """With durability `batch`: after a return, all that was written before is on the disk."""
        for root in self._roots:
            root.objects.settle()

    def claim(self, role: str) -> AbstractContextManager[None]:
        """Hold a role (a plain word, e.g. "up") that one process at a time may have in this store.

        Raises `StoreLocked` with the holder. The role ends with the block or with the process.
        """
        return self._main.turns.claim(role)

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Keep the garbage collector from what is written from now on, named by a manifest or not.

        For whoever takes long from the first blob to the tag. Raises `StoreError`.
        """
        with contextlib.ExitStack() as held:
            for root in self._roots:
                held.enter_context(root.turns.lease())
                held.enter_context(root.pool.memory.during_lease())
            yield

    @translated
    def require_present(self) -> None:
        """Raises `StoreError` where a storage root cannot be read, is gone, or is another one by now."""
        for root in self._roots:
            root.require_present()

    def require_shareable(self) -> None:
        """Raises `StoreNotShareable` where a collector or a push could lose content by cached attributes."""
        for root in self._roots:
            if root.sharing_problem:
                raise StoreNotShareable(root.sharing_problem)

    def maintenance_report(self, kind: str) -> dict[str, Any] | None:
        """What the last one left on record; `kind` is `gc` or `scrub`. Never fails."""
        try:
            return records.decoded(content_of(self._main.objects, f"{kind}.json"), dict)
        except (OSError, StoreError):
            return None

    @property
    def where(self) -> str:
        """The place of the main root, for messages."""
        return self._main.objects.where

    @property
    def is_local(self) -> bool:
        """Whether the store is made of files, so that to ask it takes no time."""
        return self._main.is_local

    @property
    def redirect_seconds(self) -> float:
        """How long the address of a blob is good for that a client is sent to; 0: none is sent."""
        return self._main.redirect_seconds

    @property
    def roots(self) -> tuple[StorageRoot, ...]:
        """The storage roots, the main one first, each once: for what cares for all of them."""
        return tuple(self._roots)

    def root_of(self, name: RepositoryName) -> StorageRoot:
        """The storage root that the repository is in, or would be."""
        return self._root_of(name)

    @translated
    def is_claimed(self, role: str) -> bool:
        """Whether some process holds the role right now; asking does not get in anybody's way."""
        return self._main.turns.is_claimed(role)

    @translated
    def is_claimed_here(self, role: str) -> bool:
        """Whether a process of this host holds the role, as far as is known."""
        turns = self._main.turns
        return turns.is_claimed(role) and ((holder := turns.claimant(role)) is None or holder.is_on_this_host)

    @translated
    def claimant(self, role: str) -> ProcessIdentity | None:
        """The process that holds the role, which may be one of another host; None when it is not known."""
        return self._main.turns.claimant(role)

    def _root_of(self, name: RepositoryName) -> StorageRoot:
        return self._by_segment.get(name.partition("/")[0], self._main)


def _segment(key: str) -> str:
    """zot chooses by the first part of the name only, so a longer key could never be chosen."""
    segment = key.strip("/")
    if not segment or "/" in segment:
        raise StoreError(f"the subpath {key!r} can never be chosen; write one part, e.g. '/kube-proxy'")
    return segment


def repositories_in(objects: Objects, folder: str) -> Iterator[RepositoryName]:
    """Names of folders below `folder`; a link, or a folder that no repository can be, leads nowhere."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        children = objects.names(f"{folder}/{prefix}"[:-1] if prefix else folder).folders
        pending.extend(f"{prefix}{child}/" for child in children if child not in AREAS)
        name = _name(prefix[:-1])
        if name is not None:
            yield name


def _holds(objects: Objects, name: RepositoryName, area: str) -> bool:
    return any(objects.has_objects(f"repos/{name}/{area}/{kind}") for kind in ("manifests", "tags"))


def _name(text: str) -> RepositoryName | None:
    try:
        return RepositoryName(text)
    except InvalidName:
        return None
