"""Opening one storage root: its folders and its `format.json`."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from registry_server.store import records
from registry_server.store.errors import StoreDamaged, StoreMissing, StoreTooNew
from registry_server.store.filesystem import disk as files
from registry_server.store.filesystem.disk import Disk
from registry_server.store.filesystem.shared_filesystem import (
    effective_durability,
    is_shared_kind,
    mounted_on,
    sharing_problem,
)
from registry_server.store.filesystem.throttle import Throttle
from registry_server.store.objects.folder import FolderObjects
from registry_server.store.objects.objects import Conflict
from registry_server.store.pool.blob_pool import Pool
from registry_server.store.pool.brought import Brought
from registry_server.store.pool.trash import FolderTrash
from registry_server.store.spool.incoming_files import IncomingFiles
from registry_server.store.turns.folder import FolderTurns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry_server.store.filesystem.durability import Durability
    from registry_server.store.filesystem.shared_filesystem import SharedFileSystem
    from registry_server.store.objects.objects import Objects
    from registry_server.store.turns.turns import Turns

VERSION: Final = 1
_FOLDERS: Final = ("blobs", "incoming", "locks", "repos", "staging")
FORMAT: Final = "format.json"
STALE_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class StorageRoot:
    """A place with a pool of its own: repositories in different roots share no content.

    `spool` is a local folder, with what is on its way in: incoming blobs and upload sessions. For a store in
    a folder it is that folder.
    """

    objects: Objects
    turns: Turns
    spool: Disk
    pool: Pool
    brought: Brought
    uuid: str
    pull_throttle: Throttle = field(default_factory=Throttle)
    is_local: bool = True
    """Whether to ask the objects takes no longer than to read a file."""
    redirect_seconds: float = 0.0
    """How long an address is good for that a client is sent to for a blob; 0: it is sent to none."""
    sharing_problem: str = ""  # why hosts cannot share it; "" when nothing is wrong
    may_lag: bool = False  # whether what another host has written may be seen some seconds later

    @property
    def incoming(self) -> IncomingFiles:
        return IncomingFiles(self.spool)

    @property
    def folder(self) -> str:
        """The local folder, as a real path."""
        return self.spool.root

    def require_present(self) -> None:
        """Raises `StoreMissing` (a volume was unmounted), `StoreDamaged` (another store is in its place)."""
        found = self.objects.parsed(FORMAT, partial(_identity_in, where=self.objects.where))
        if found is not None and found != self.uuid:
            raise StoreDamaged(
                f"{self.objects.where} is another store than at the start; restart this process, or mount it"
            )
        if found is None or not self.objects.has_folder("repos"):
            raise StoreMissing(
                f"the store {self.objects.where} has disappeared; check that its volume is mounted"
            )


def open_root(
    path: str, durability: Durability, *, create: bool, shared: SharedFileSystem = "auto"
) -> StorageRoot:
    """Raises OSError, `StoreMissing` (nothing there and not `create`), `StoreTooNew`, `StoreDamaged`."""
    mount = mounted_on(path)
    disk = Disk(path, effective_durability(durability, mount))
    objects = FolderObjects(disk)
    found = read_format(objects)
    if found is None and not create:
        raise StoreMissing(f"there is no store in {path} (no format.json); check storage.rootDirectory")
    if found is None:
        make_folders(disk, _FOLDERS)
        found = create_format(objects)
    clean_staging(path)
    pool, turns = Pool(objects, FolderTrash(disk)), FolderTurns(disk)
    return StorageRoot(
        objects,
        turns,
        disk,
        pool,
        Brought(objects, turns, works=False),
        found,
        sharing_problem=sharing_problem(path, mount, shared),
        may_lag=mount is not None and is_shared_kind(mount) and shared != "exclusive",
    )


def read_format(objects: Objects) -> str | None:
    """The uuid of the store; None: there is none. Raises `StoreTooNew`, `StoreDamaged`, `StoreMissing`."""
    held = objects.get(FORMAT)
    return None if held is None else _identity_in(held.content, objects.where)


def _identity_in(content: bytes, where: str) -> str:
    """The uuid in the `format.json` of a store. Raises like `read_format`."""
    try:
        body = json.loads(content)
        if "spool" in body:
            raise StoreMissing(
                f"{where} is the local folder of the store in {body['objects']}; "
                "add storage.storageDriver to the profile, or name another storage.rootDirectory"
            )
        version, identity = int(body["version"]), str(body["uuid"])
    except (ValueError, LookupError, TypeError) as error:
        raise StoreDamaged(
            f'{where}/{FORMAT} cannot be read; write {{"version": {VERSION}, "uuid": "<any uuid>"}} into it'
        ) from error
    if version > VERSION:
        raise StoreTooNew(
            f"the store in {where} has format {version}, and this mirrorflow knows up to {VERSION}: "
            "install a newer mirrorflow, or name another storage.rootDirectory"
        )
    return identity


def make_folders(disk: Disk, folders: Iterable[str]) -> None:
    path = Path(disk.root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for folder in folders:
        disk.make_first_folder(f"{disk.root}/{folder}")


def create_format(objects: Objects) -> str:
    document = {"version": VERSION, "uuid": str(uuid.uuid4()), "created": time.time()}
    # Of several processes that create the store at once, one wins.
    with contextlib.suppress(Conflict):
        objects.put(FORMAT, records.encode(document), new=True)
    found = read_format(objects)
    if found is None:
        raise StoreDamaged(f"{objects.where}/{FORMAT} is not a regular file; remove it")
    return found


def clean_staging(root: str) -> None:
    """Small files that a killed process was writing: nobody will ever name them."""
    before = time.time() - STALE_SECONDS
    for name in files.names(f"{root}/staging"):
        files.remove_if_older(f"{root}/staging/{name}", before)
