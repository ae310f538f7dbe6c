"""Opening a storage root whose objects are in a bucket. What is on its way in stays in a local folder."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from registry_server.store import records
from registry_server.store.errors import StoreDamaged, StoreError, StoreMissing
from registry_server.store.filesystem import disk as files
from registry_server.store.filesystem.disk import Disk
from registry_server.store.objects.storage_driver import StorageDriver
from registry_server.store.pool.blob_pool import Pool
from registry_server.store.pool.tombstones import Tombstones
from registry_server.store.storage_root import (
    FORMAT,
    VERSION,
    StorageRoot,
    clean_staging,
    create_format,
    make_folders,
    read_format,
)
from registry_server.store.turns.folder import FolderTurns

if TYPE_CHECKING:
    from registry_server.store.objects.object_storage import ObjectStorage
    from registry_server.store.turns.turns import Turns

_FOLDERS: Final = ("incoming", "locks", "staging", "uploads")
_ANCHOR: Final = "repos/~"
"""An object that is always there: a listing without it is not one of this store."""


@dataclass(frozen=True, slots=True)
class RemoteStorage:
    """Where a store is that is not in a folder. Nothing here is secret.

    `locks_file` holds the URL of a PostgreSQL for the locks of several hosts, or the environment variable
    `locks_variable` does. Without either, locks are files, for the processes of one host.

    `redirect_seconds`: how long an address is good for that a client is sent to for a blob; 0: the registry
    server hands out all bytes itself.
    """

    driver: StorageDriver
    locks_file: str = ""
    locks_variable: str = ""
    redirect_seconds: float = 0.0

    def to_json(self) -> str:
        body = asdict(self)
        del body["driver"]["limits"]
        return json.dumps(body)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises `StoreError`."""
        try:
            body: dict[str, Any] = json.loads(text)
            return cls(**{**body, "driver": StorageDriver(**body["driver"])})
        except (ValueError, TypeError, LookupError) as error:
            raise StoreError(f"{text!r} does not say where the store is: {error}") from None

    @property
    def is_for_several_hosts(self) -> bool:
        return bool(self.locks_file or self.locks_variable)

    def locks_url(self) -> str:
        """The URL, which holds a password. Raises `StoreError`."""
        if self.locks_variable:
            found = os.environ.get(self.locks_variable, "")
            where = f"the environment variable {self.locks_variable} (storage.locks.postgresUrlVariable)"
        else:
            where = f"{self.locks_file} (storage.locks.postgresUrlFile)"
            try:
                found = Path(self.locks_file).read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise StoreError(f"{where} cannot be read: {error}") from None
        if not found.strip():
            raise StoreError(f"{where} is empty; write postgresql://user:password@host/database")
        return found.strip()


def open_remote_root(folder: str, remote: RemoteStorage, *, create: bool) -> StorageRoot:
    """`folder` is the local one. Raises OSError, and what `open_root` raises."""
    # Late: it takes time to import, and most stores are in a folder.
    from registry_server.store.objects.object_storage import ObjectStorage

    objects = ObjectStorage(remote.driver)
    objects.check()
    uuid = read_format(objects)
    if uuid is None and not create:
        raise StoreMissing(f"there is no store in {objects.where} (no {FORMAT}); check storage.storageDriver")
    if uuid is None:
        objects.mark(_ANCHOR)
        uuid = create_format(objects)
    spool = _spool(folder, objects, uuid)
    turns = _turns(remote, spool, objects, uuid)
    pool = Pool(objects, Tombstones(objects, turns))
    return StorageRoot(
        objects, turns, spool, pool, uuid, is_local=False, redirect_seconds=remote.redirect_seconds
    )


def _turns(remote: RemoteStorage, spool: Disk, objects: ObjectStorage, uuid: str) -> Turns:
    if not remote.is_for_several_hosts:
        return FolderTurns(spool, objects.now)
    # Late: psycopg is an extra.
    from registry_server.store.turns.postgres import PostgresTurns

    return PostgresTurns(remote.locks_url(), uuid, now=objects.now)


def _spool(folder: str, objects: ObjectStorage, uuid: str) -> Disk:
    """A power cut may take what is in it: it is hashed again before anybody relies on it."""
    spool = Disk(folder, "none")
    found = files.read(f"{folder}/{FORMAT}")
    if found is None:
        make_folders(spool, _FOLDERS)
        # `read_format` refuses it: it would be an empty store.
        document = {"version": VERSION, "spool": uuid, "objects": objects.where, "created": time.time()}
        spool.write(f"{folder}/{FORMAT}", records.encode(document))
    elif records.decoded(found, lambda body: str(body["spool"])) != uuid:
        raise StoreDamaged(
            f"{folder} holds a store of its own, and not what is on its way to {objects.where}; name an "
            "empty folder in storage.rootDirectory"
        )
    clean_staging(folder)
    return spool
