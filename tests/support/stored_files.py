"""Where a store in a folder keeps its content: for tests that damage it, or look behind the store's back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.store.pool.blob_pool import blob_key

if TYPE_CHECKING:
    from registry_server.oci.reference import Tag
    from registry_server.store.repository_reader import RepositoryReader


def file_of(repository: RepositoryReader, reference: Tag | Digest) -> Path:
    """The file of a blob, or of the manifest that a tag or a digest names. Raises `NotFound`."""
    if isinstance(reference, Digest):
        digest = repository.find_blob(reference).digest
    else:
        digest = repository.find_manifest(reference).descriptor.digest
    return Path(repository._objects.where, blob_key(digest))
