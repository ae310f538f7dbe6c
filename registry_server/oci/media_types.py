"""Media types of image-spec 1.1 (media-types.md) and their Docker forebears."""

from __future__ import annotations

from typing import Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
# From the release candidates of image-spec 1.1; still found in older Notation and ORAS repositories.
OCI_ARTIFACT_MANIFEST: Final = "application/vnd.oci.artifact.manifest.v1+json"

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
SCHEMA1: Final = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
MANIFESTS: Final = INDEXES | IMAGES | {OCI_ARTIFACT_MANIFEST}

# Types of servers and object stores that do not know what they have.
_GENERIC: Final = frozenset(
    {"", "application/json", "text/json", "text/plain", "application/octet-stream", "binary/octet-stream"}
)

# What we ask an upstream for. Schema 1 is last: some registries convert down to it when it is missing.
ACCEPT: Final = (
    f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}, {OCI_ARTIFACT_MANIFEST}, */*;q=0.1"
)


def is_generic(media_type: str) -> bool:
    """Whether it says nothing about a manifest: then its body does."""
    return without_parameters(media_type) in _GENERIC


def may_list_manifests(media_type: str) -> bool:
    """Whether a manifest of this type may have `manifests`: indexes, and types that we do not know."""
    return media_type in INDEXES or media_type not in MANIFESTS


def is_same_kind(one: str, other: str) -> bool:
    """Whether both are images, or both are indexes, be it Docker's or OCI's."""
    return any(one in kind and other in kind for kind in (IMAGES, INDEXES))


def is_foreign(media_type: str) -> bool:
    """Layers that registries do not distribute (image-spec layer.md, "Non-Distributable Layers")."""
    return ".nondistributable." in media_type or ".rootfs.foreign." in media_type


def without_parameters(content_type: str) -> str:
    """`Application/JSON; charset=utf-8` -> `application/json`."""
    return content_type.partition(";")[0].strip().lower()
