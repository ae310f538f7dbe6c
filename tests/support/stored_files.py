"""Where a store keeps its content: for tests that damage it, age it, or look behind the store's back.

Objects in a bucket of versitygw are files of the same names, below a folder of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.store.pool.blob_pool import blob_key
from tests.support.object_storage import BUCKETS

if TYPE_CHECKING:
    from registry_server.oci.reference import Tag
    from registry_server.store.objects.objects import Objects
    from registry_server.store.repository_reader import RepositoryReader
    from registry_server.store.store import Store


def file_of(repository: RepositoryReader, reference: Tag | Digest) -> Path:
    """The file of a blob, or of the manifest that a tag or a digest names. Raises `NotFound`."""
    if isinstance(reference, Digest):
        digest = repository.find_blob(reference).digest
    else:
        digest = repository.find_manifest(reference).descriptor.digest
    return folder_of(repository._objects) / blob_key(digest)


def objects_folder(store: Store) -> Path:
    """The folder of the files that are the objects of a store: its own, or that of its bucket."""
    return folder_of(store.roots[0].objects)


def forget(store: Store) -> None:
    """What this process remembers of objects in a bucket: as if it had begun a moment ago."""
    root = store.roots[0]
    if not root.is_local:
        root.objects._values.clear()  # type: ignore[attr-defined] # it is an ObjectStorage
        root.pool.trash._marked.clear()  # type: ignore[attr-defined] # these are Tombstones
        root.pool.trash._contents.clear()  # type: ignore[attr-defined]


def folder_of(objects: Objects) -> Path:
    """As `objects_folder`, of these objects."""
    if not objects.where.startswith("s3://"):
        return Path(objects.where)
    bucket = objects._bucket.driver  # type: ignore[attr-defined] # it is an ObjectStorage
    return Path(BUCKETS[bucket.regionendpoint], bucket.bucket, bucket.prefix)
