"""The stores of others, filled from one of ours by writing their files: pushing would take minutes.

That of docker-registry is laid out as CNCF distribution's `registry/storage/paths.go` says. zot, regsync and
oras have OCI image layouts (image-spec, image-layout.md), one a repository.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.store.pool.blob_pool import blob_key

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

_REF_NAME: Final = "org.opencontainers.image.ref.name"


def to_distribution(store: Store, root: Path) -> Path:
    """Everything that is tagged in `store`; blobs are further names of the same files. Returns `root`."""
    for name in store.repositories():
        _Target(root, store, store.repository(name)).fill()
    return root


def to_layouts(store: Store, root: Path) -> Path:
    """Everything that is tagged in `store`, as `root/<repository>`. Returns `root`."""
    for name in store.repositories():
        _fill_layout(store.root, store.repository(name), root / name)
    return root


def _fill_layout(pool: Path, source: Repository, folder: Path) -> None:
    tagged, wanted = [], set[Digest]()
    for tag, record in source.tag_records().items():
        descriptor = {"mediaType": record.media_type, "digest": record.digest, "size": record.size}
        tagged.append({**descriptor, "annotations": {_REF_NAME: tag}})
        wanted.add(record.digest)
    for digest in list(wanted):
        found, body = source.read_manifest(digest)
        wanted |= {blob.digest for blob in parse_manifest(body, found.media_type).blobs}
    for digest in wanted:
        path = folder / "blobs/sha256" / digest.hex
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(pool / blob_key(digest))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": tagged}))


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
