"""The store of docker-registry, filled from one of ours by writing its files: pushing would take minutes.

The layout is that of CNCF distribution's `registry/storage/paths.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.manifest import parse_manifest
from registry_server.store.pool.blob_pool import blob_key

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store


def to_distribution(store: Store, root: Path) -> Path:
    """Everything that is tagged in `store`; blobs are further names of the same files. Returns `root`."""
    for name in store.repositories():
        _Target(root, store, store.repository(name)).fill()
    return root


class _Target:
    def __init__(self, root: Path, store: Store, source: Repository) -> None:
        self._base = root / "docker/registry/v2"
        self._folder = self._base / "repositories" / source.name
        self._pool, self._source = store.root, source

    def fill(self) -> None:
        made = set[str]()
        for tag, record in self._source.tag_records().items():
            tagged = self._folder / "_manifests/tags" / tag
            _link(tagged / "current/link", record.digest)
            _link(tagged / "index/sha256" / record.digest.hex / "link", record.digest)
            if record.digest not in made:
                made.add(record.digest)
                self._manifest(record.digest)

    def _manifest(self, digest: Digest) -> None:
        descriptor, body = self._source.read_manifest(digest)
        _link(self._folder / "_manifests/revisions/sha256" / digest.hex / "link", digest)
        self._blob(digest)
        for blob in parse_manifest(body, descriptor.media_type).blobs:
            _link(self._folder / "_layers/sha256" / blob.digest.hex / "link", blob.digest)
            self._blob(blob.digest)

    def _blob(self, digest: Digest) -> None:
        path = self._base / "blobs/sha256" / digest.hex[:2] / digest.hex / "data"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(self._pool / blob_key(digest))


def _link(path: Path, digest: Digest) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(digest)
