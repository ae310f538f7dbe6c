"""Images as Docker writes them: schema 2 manifests and manifest lists, on a made-up upstream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from registry_server.oci import media_types
from registry_server.oci.descriptor import Platform

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from tests.support_misbehaving import Misbehaving

GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def add_docker_image(
    upstream: Misbehaving, repository: str, tag: str, *, architecture: str = "amd64", **more: Any
) -> Descriptor:
    """A schema 2 manifest, indented by three blanks as Docker does; `more` are further keys of it."""
    document = {"architecture": architecture, "os": "linux", "config": {"Healthcheck": {"Test": ["NONE"]}}}
    config = upstream.add_blob(repository, json.dumps(document).encode(), media_types.DOCKER_CONFIG)
    layers = [upstream.add_blob(repository, each.encode(), GZIP) for each in ("shared", architecture)]
    return add_docker(
        upstream,
        repository,
        tag,
        media_types.DOCKER_MANIFEST,
        **{"config": config.to_json(), "layers": [each.to_json() for each in layers], **more},
    )


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


def platform(text: str) -> Platform:
    return Platform.parse(text)
