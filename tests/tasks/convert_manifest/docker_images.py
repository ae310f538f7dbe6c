"""Images as Docker writes them, on a made-up upstream; and looks at what became of them here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from tests.tasks.runs import add_document, store_of

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from tests.support_misbehaving import Misbehaving

GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
NAME = "library/nginx"
IMAGE = f"{NAME}:1.25"
TAG = Tag("1.25")
RULE: dict[str, Any] = {"images": [IMAGE], "referrers": {"follow": False}}
CONVERT = RULE | {"convert": "oci"}
ARM = ["linux/arm64"]


def add_docker_image(
    upstream: Misbehaving, repository: str, tag: str, *, architecture: str = "amd64", **more: Any
) -> Descriptor:
    """A schema 2 manifest, indented by three blanks as Docker does; `more` are further keys of it."""
    config = config_of(upstream, repository, architecture)
    layers = [upstream.add_blob(repository, each.encode(), GZIP) for each in ("shared", architecture)]
    return add_docker(
        upstream,
        repository,
        tag,
        media_types.DOCKER_MANIFEST,
        **{"config": config.to_json(), "layers": [each.to_json() for each in layers], **more},
    )


def config_of(upstream: Misbehaving, repository: str, architecture: str = "amd64") -> Descriptor:
    """With what OCI's config does not know, and a tool that writes it anew loses."""
    document = {"architecture": architecture, "os": "linux", "config": {"Healthcheck": {"Test": ["NONE"]}}}
    return upstream.add_blob(repository, json.dumps(document).encode(), media_types.DOCKER_CONFIG)


def add_docker_list(upstream: Misbehaving, repository: str, tag: str, *architectures: str) -> Descriptor:
    """A manifest list of one image each."""
    entries = []
    for each in architectures:
        child = add_docker_image(upstream, repository, f"{tag}-{each}", architecture=each)
        platform = {"architecture": each, "os": "linux", "features": ["sse4"]}
        entries.append(child.to_json() | {"platform": platform})
    return add_docker(upstream, repository, tag, media_types.DOCKER_LIST, manifests=entries)


def add_docker(
    upstream: Misbehaving, repository: str, tag: str, media_type: str, **fields: Any
) -> Descriptor:
    document = {"schemaVersion": 2, "mediaType": media_type, **fields}
    return upstream.add_manifest(repository, tag, json.dumps(document, indent=3).encode(), media_type)


def add_referrer(upstream: Misbehaving, subject: Descriptor, artifact_type: str, tag: str) -> Descriptor:
    return add_document(
        upstream,
        NAME,
        tag,
        media_types.OCI_MANIFEST,
        artifactType=artifact_type,
        config=upstream.add_blob(NAME, b"{}", media_types.OCI_EMPTY).to_json(),
        layers=[upstream.add_blob(NAME, artifact_type.encode(), artifact_type).to_json()],
        subject=subject.to_json(),
    )


def repository(folder: Path) -> Repository:
    return store_of(folder).repository(RepositoryName(NAME))


def tagged(folder: Path) -> TagRecord:
    record = repository(folder).tag(TAG)
    assert record is not None
    return record


def document(folder: Path, reference: str) -> dict[str, Any]:
    digest_or_tag = Digest(reference) if ":" in reference else Tag(reference)
    found: dict[str, Any] = json.loads(repository(folder).read_manifest(digest_or_tag)[1])
    return found
