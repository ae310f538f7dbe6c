"""Short ways to make what the steps hand to one another, without an upstream."""

from __future__ import annotations

from typing import Any

from profiles.model.sync import RegistryEntry
from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import Manifest
from registry_server.oci.reference import RepositoryName, Tag, parse_reference
from tasks.list_catalog import choose_repositories
from tasks.run.values import Image, SourceRepository

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def entry(*content: dict[str, Any], **more: Any) -> RegistryEntry:
    return RegistryEntry.model_validate(
        {"name": "registry1", "urls": ["https://registry1.example"], "content": content, **more}
    )


def blob(name: str, size: int = 10) -> Descriptor:
    return Descriptor(LAYER_TYPE, Digest.of(name.encode()), size)


def image(name: str = "library/nginx:1.25", **more: Any) -> Image:
    """`library/nginx:1.25`, of an upstream repository that is called the same."""
    repository, _, tag = name.partition("@" if "@" in name else ":")
    fields: dict[str, Any] = {
        "source": repository,
        "local": RepositoryName(repository),
        "reference": parse_reference(tag),
        "digest": Digest.of(name.encode()),
        "media_type": media_types.OCI_MANIFEST,
    }
    return Image(**(fields | more))


def index(*children: tuple[str, str] | tuple[str, str, dict[str, str]]) -> Manifest:
    """Of (name, platform) or (name, platform, annotations); an empty platform is none."""
    return Manifest(b"{}", media_types.OCI_INDEX, manifests=tuple(_child(*each) for each in children))


def _child(name: str, platform: str, annotations: dict[str, str] | None = None) -> Descriptor:
    return Descriptor(
        media_types.OCI_MANIFEST,
        Digest.of(name.encode()),
        10,
        platform=Platform.parse(platform) if platform else None,
        annotations=annotations or {},
    )


def source(name: str = "library/nginx", *content: dict[str, Any]) -> SourceRepository:
    [found] = choose_repositories(entry(*(content or ({"prefix": "**"},))), [name])
    return found


TAG = Tag("1.25")
