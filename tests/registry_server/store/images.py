"""Small images for the tests of the store, and a look at everything that a store promises."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import Manifest, parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.records import Origin, TagRecord
from tests.support.stored_files import objects_folder

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

FOLDER_ONLY = pytest.mark.parametrize("store", ["folder"], indirect=True)
"""For tests of what only files can be or do: links, modes, locks, and being moved."""


def layer(content: bytes, media_type: str = LAYER_TYPE) -> Descriptor:
    return Descriptor(media_type, Digest.of(content), len(content))


def image(*layers: bytes, config: bytes = b"{}", **more: Any) -> Manifest:
    """An image of these layers."""
    return manifest(
        {
            "mediaType": media_types.OCI_MANIFEST,
            "config": layer(config, media_types.OCI_CONFIG).to_json(),
            "layers": [layer(content).to_json() for content in layers],
            **more,
        }
    )


def index(*children: Manifest, **more: Any) -> Manifest:
    entries = [child.descriptor().to_json() for child in children]
    return manifest({"mediaType": media_types.OCI_INDEX, "manifests": entries, **more})


def manifest(document: dict[str, Any]) -> Manifest:
    return parse_manifest(json.dumps({"schemaVersion": 2, **document}).encode())


def record(descriptor: Descriptor, *sparse: Digest) -> TagRecord:
    origin = Origin("registry1:5000", "library/nginx", descriptor.digest)
    return TagRecord(descriptor.digest, descriptor.media_type, descriptor.size, 1.5, origin, sparse)


def put_image(repository: Repository, *layers: bytes, config: bytes = b"{}") -> Descriptor:
    """Blobs and manifest, without a tag."""
    for content in (config, *layers):
        repository.put_blob(layer(content), content)
    return repository.put_manifest(image(*layers, config=config))


def tag_image(repository: Repository, tag: str, *layers: bytes) -> Descriptor:
    descriptor = put_image(repository, *layers)
    repository.put_tag(Tag(tag), record(descriptor))
    return descriptor


def check(store: Store) -> int:
    """Invariants 1 and 2, read from the files: the number of visible tags."""
    for path in (objects_folder(store) / "blobs").glob("*/*/*"):
        algorithm = path.parts[-3]
        assert Digest.of(path.read_bytes(), algorithm) == f"{algorithm}:{path.name}"
        assert path.stat().st_mode & 0o777 == 0o444 or not store.roots[0].is_local
    seen = 0
    for name in store.repositories():
        repository = store.repository(name)
        for tag in repository.tags():
            seen += 1
            check_closure(repository, tag)
    return seen


def check_closure(repository: Repository, reference: Tag | Digest) -> None:
    descriptor, body = repository.read_manifest(reference)
    found = parse_manifest(body, descriptor.media_type)
    assert repository.missing(found) == []
    for blob in found.blobs:
        assert repository.find_blob(blob.digest).size == blob.size
    for child in found.manifests:
        check_closure(repository, child.digest)


def files_below(root: Path) -> set[str]:
    """Every file of a store, for "leaves no trace"."""
    return {os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names}  # noqa: PTH118 - os.walk gives texts
