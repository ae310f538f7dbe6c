"""Opening one storage root: its folders and its `format.json`."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from registry_server.store import records
from registry_server.store.blob_pool import Pool
from registry_server.store.errors import StoreDamaged, StoreMissing, StoreTooNew
from registry_server.store.filesystem import disk as files
from registry_server.store.filesystem.disk import Disk
from registry_server.store.filesystem.shared_filesystem import (
    effective_durability,
    mounted_on,
    sharing_problem,
)
from registry_server.store.filesystem.stat_cache import StatCache
from registry_server.store.filesystem.throttle import Throttle

if TYPE_CHECKING:
    from registry_server.store.filesystem.durability import Durability
    from registry_server.store.filesystem.shared_filesystem import SharedFileSystem

VERSION: Final = 1
_FOLDERS: Final = ("blobs", "incoming", "locks", "repos", "staging")
STALE_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class StorageRoot:
    """One folder with a pool of its own: repositories in different roots share no content."""

    disk: Disk
    pool: Pool
    uuid: str
    stat_cache: StatCache = field(default_factory=StatCache)
    pull_throttle: Throttle = field(default_factory=Throttle)  # pulls
    sharing_problem: str = ""  # why hosts cannot share it; "" when nothing is wrong


def open_root(
    path: str, durability: Durability, *, create: bool, shared: SharedFileSystem = "auto"
) -> StorageRoot:
    """Raises OSError, `StoreMissing` (nothing there and not `create`), `StoreTooNew`, `StoreDamaged`."""
    mount = mounted_on(path)
    disk = Disk(path, effective_durability(durability, mount))
    found = _read_format(path)
    if found is None and not create:
        raise StoreMissing(f"there is no store in {path} (no format.json); check storage.rootDirectory")
    if found is None:
        found = _create(disk)
    _clean_staging(path)
    return StorageRoot(disk, Pool(disk), found, sharing_problem=sharing_problem(path, mount, shared))


def _read_format(root: str) -> str | None:
    """The uuid of the store in `root`; None when there is none."""
    path = f"{root}/format.json"
    content = files.read(path)
    if content is None:
        return None
    try:
        body = json.loads(content)
        version, identity = int(body["version"]), str(body["uuid"])
    except (ValueError, LookupError, TypeError) as error:
        raise StoreDamaged(
            f'{path} cannot be read; write {{"version": {VERSION}, "uuid": "<any uuid>"}} into it'
        ) from error
    if version > VERSION:
        raise StoreTooNew(
            f"the store in {root} has format {version}, and this mirrorflow knows up to {VERSION}: "
            "install a newer mirrorflow, or name another storage.rootDirectory"
        )
    return identity


def _create(disk: Disk) -> str:
    root = disk.root
    path = Path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for folder in _FOLDERS:
        disk.make_first_folder(f"{root}/{folder}")
    document = {"version": VERSION, "uuid": str(uuid.uuid4()), "created": time.time()}
    staged = disk.stage(records.encode(document))
    # A link does not replace: of several processes that create the store at once, one wins.
    with contextlib.suppress(FileExistsError):
        (path / "format.json").hardlink_to(staged)
    files.remove(staged)
    disk.flusher.folder(root)
    found = _read_format(root)
    if found is None:
        raise StoreDamaged(f"{root}/format.json is not a regular file; remove it")
    return found


def _clean_staging(root: str) -> None:
    """Small files that a killed process was writing: nobody will ever name them."""
    before = time.time() - STALE_SECONDS
    for name in files.names(f"{root}/staging"):
        files.remove_if_older(f"{root}/staging/{name}", before)
