"""The store as a destination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.destinations.interface import Feed
    from tasks.upstream.blob import BlobSink


class StoreDestination:
    """What arrives and is cut stays in the store's incoming file, and is gone on with, also after a kill."""

    name = "store"

    def __init__(self, store: Store, cancelled: Callable[[], bool]) -> None:
        self.state = store
        self._cancelled = cancelled

    def holds(self, local: RepositoryName, blob: Descriptor) -> bool:
        repository = self.state.repository(local)
        if not self.state.is_local:
            return repository.has_marked(blob.digest)
        return repository.adopt_blob(blob.digest, size=blob.size)

    def bring(self, local: RepositoryName, blob: Descriptor, feed: Feed) -> None:
        repository = self.state.repository(local)
        # Object storage is asked once: when it is this writer's turn.
        if (self.state.is_local or blob.data is not None) and repository.adopt_blob(
            blob.digest, size=blob.size
        ):
            return
        if blob.data is not None:  # image-spec descriptor.md: embedded content need not be fetched
            repository.put_blob(blob, blob.data)
        elif not self._receive(repository, blob, feed):
            self._receive(repository, blob, feed)

    def _receive(self, repository: Repository, blob: Descriptor, feed: Feed) -> bool:
        """Whether the blob is here.

        False: worth another try, because what an earlier run left may be what was wrong. It is gone by now.
        """
        with repository.receive_blob(blob, cancelled=self._cancelled) as incoming:
            if incoming.complete:
                return True
            resumed = incoming.offset > 0
            feed(incoming)
            try:
                incoming.commit()
            except DigestMismatch:
                if not resumed:
                    raise
                return False
        return True

    def read(self, local: RepositoryName, blob: Descriptor, sink: BlobSink) -> None:
        for piece in self.state.repository(local).find_blob(blob.digest).pieces(sink.offset):
            sink.write(piece)

    def put_manifest(self, local: RepositoryName, manifest: Manifest, digest: Digest) -> None:
        self.state.repository(local).put_manifest(manifest, digest)

    def put_tag(self, local: RepositoryName, tag: Tag, record: TagRecord, manifest: Manifest) -> None:
        del manifest  # it is in the pool
        self.state.repository(local).put_tag(tag, record)

    def names(self, local: RepositoryName, reference: Tag | Digest) -> Digest | None:
        repository = self.state.repository(local)
        if isinstance(reference, Digest):
            return reference if repository.has_blob(reference) else None
        record = repository.tag(reference)
        return record.digest if record else None
