"""Opening a storage root whose objects are in a bucket. What is on its way in stays in a local folder."""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Final

from registry_server.store import records
from registry_server.store.errors import StoreDamaged, StoreMissing, StoreNotShareable
from registry_server.store.filesystem import disk as files
from registry_server.store.filesystem.disk import Disk
from registry_server.store.objects.objects import Conflict
from registry_server.store.pool.blob_pool import Pool
from registry_server.store.pool.brought import Brought
from registry_server.store.pool.tombstones import Tombstones
from registry_server.store.run_memory import RunMemory
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
    from registry_server.store.remote_storage import RemoteStorage
    from registry_server.store.turns.turns import Turns

_FOLDERS: Final = ("incoming", "locks", "staging", "uploads")
_PROBE: Final = "probe"
_ANCHOR: Final = "repos/~"
"""An object that is always there: a listing without it is not one of this store."""


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
        _require_conditions(objects)
        objects.mark(_ANCHOR)
        uuid = create_format(objects)
    spool = _spool(folder, objects, uuid)
    turns = _turns(remote, spool, objects, uuid)
    pool = Pool(objects, Tombstones(objects, turns), RunMemory(works=True))
    return StorageRoot(
        objects,
        turns,
        spool,
        pool,
        Brought(objects, turns),
        uuid,
        is_local=False,
        redirect_seconds=remote.redirect_seconds,
    )


def _require_conditions(objects: ObjectStorage) -> None:
    """Some servers take a condition of a PUT for granted: then of two writers both would win."""
    # A key of its own: another process that makes the store at the same time removes what it has put.
    probe = f"{_PROBE}/{secrets.token_hex(8)}"
    objects.put(probe, b"1")
    for condition in ({"new": True}, {"instead_of": '"00000000000000000000000000000000"'}):
        with contextlib.suppress(Conflict):
            objects.put(probe, secrets.token_bytes(8), **condition)
            raise StoreNotShareable(
                f"{objects.where}: this server ignores the conditions of a PUT (If-None-Match, If-Match), "
                "without which writers lose each other's tags; use another one, or a newer version of it"
            )
    objects.remove(probe)


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
