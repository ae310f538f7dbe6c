"""What the tests of garbage collection have in common: a short way to collect, and to grow old."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from registry_server.oci.reference import Tag
from registry_server.store.gc.collector import Care, collect
from registry_server.store.gc.retention import GcOptions
from registry_server.store.pool.blob_pool import blob_key, file_name
from tests.registry_server.store.images import files_below, layer
from tests.support.stored_files import forget, objects_folder

if TYPE_CHECKING:
    from registry_server.store.gc.gc_report import GcReport
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

A, B, C = b"layer a", b"layer b", b"layer c"
OPTIONS = GcOptions(delay=3600.0, settle=0.0)


def gc(store: Store, options: GcOptions = OPTIONS, **care: object) -> GcReport:
    return collect(store, {store.root: options}, Care(**care))  # type: ignore[arg-type]  # any of its fields


def age(store: Store, days: float = 1.0) -> None:
    """Everything in the store was written so many days earlier."""
    for path in files_below(store.root) | files_below(objects_folder(store)):
        found = os.lstat(path)
        os.utime(path, (found.st_atime, found.st_mtime - days * 86400), follow_symlinks=False)
    forget(store)


def in_pool(store: Store, content: bytes) -> bool:
    """And not in the trash, which in a bucket leaves it where it is until the next collection."""
    digest, folder = layer(content).digest, objects_folder(store)
    path, tombstone = folder / blob_key(digest), folder / "trash" / file_name(digest)
    return path.exists() and not tombstone.exists()


def untag(repository: Repository, tag: str) -> None:
    repository.delete_tag(Tag(tag))
