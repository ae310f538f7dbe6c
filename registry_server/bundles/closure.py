"""What images of a repository stand on, and what refers to any of it: everything that goes where they go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry_server.bundles.document import Content
from registry_server.oci.errors import NotFound
from registry_server.oci.manifest import parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository


@dataclass(frozen=True, slots=True)
class _Links:
    """What one manifest leads to: manifests and referrers, and blobs."""

    manifests: tuple[Digest, ...]
    blobs: tuple[Digest, ...]


@dataclass(slots=True)
class StoredClosure:
    """Collects contents of one repository, each once. Methods raise `StoreError`, `ContentError`.

    `manifests` have their media types; `subjects` are those of the manifests that have one. A referrer comes
    along if it `follows`.
    """

    repository: Repository
    follows: Callable[[Digest], bool] = lambda _: True
    manifests: dict[Digest, Content] = field(default_factory=dict)
    blobs: dict[Digest, Content] = field(default_factory=dict)
    subjects: dict[Digest, Digest] = field(default_factory=dict)
    _links: dict[Digest, _Links] = field(default_factory=dict)

    def add(self, record: TagRecord) -> set[Digest]:
        """Add what a tag stands on, and what refers to any of that; the digests of it."""
        found: set[Digest] = set()
        queue = list(record.roots)
        while queue:
            digest = queue.pop()
            if digest in found:
                continue
            found.add(digest)
            if digest not in self._links:
                self._links[digest] = self._look_into(digest)
            found.update(self._links[digest].blobs)
            queue += self._links[digest].manifests
        return found

    def _look_into(self, digest: Digest) -> _Links:
        """Add one manifest with its blobs."""
        descriptor, body = self.repository.read_manifest(digest)
        manifest = parse_manifest(body, descriptor.media_type)
        self.manifests[digest] = Content(digest, len(body), descriptor.media_type)
        if manifest.subject is not None:
            self.subjects[digest] = manifest.subject.digest
        children = [child for child in manifest.manifests if self._is_manifest(child)]
        # An index may list blobs (BuildKit's caches). These, and foreign layers, need not be here.
        listed = {each.digest for each in children}
        extra = [each for each in manifest.manifests if each.digest not in listed]
        extra += [each for each in manifest.layers if each.is_foreign]
        blobs = [*manifest.blobs, *(each for each in extra if self.repository.has_blob(each.digest))]
        for blob in blobs:
            self._add_blob(blob)
        referrers = (each.digest for each in self.repository.referrers(digest) if self.follows(each.digest))
        return _Links((*(each.digest for each in children), *referrers), tuple(each.digest for each in blobs))

    def _add_blob(self, blob: Descriptor) -> None:
        if blob.digest not in self.blobs:
            self.blobs[blob.digest] = Content(blob.digest, self.repository.find_blob(blob.digest).size)

    def _is_manifest(self, child: Descriptor) -> bool:
        """What an index says of the types of its entries may be wrong; and a platform may be left out."""
        try:
            self.repository.find_manifest(child.digest)
        except NotFound:
            return False
        return True
