"""Referrers as clients keep them where a registry has no list (distribution-spec, "Referrers Tag Schema").

Images that came from such a registry, with that tag, are found by it; what is pushed here needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.store.repository import Repository


def fallback_tag(subject: Digest) -> Tag:
    """`sha256-<hex>`, cut to what a tag may have."""
    return Tag(f"{subject.algorithm[:32]}-{subject.hex[:64]}")


def fallback_referrers(repository: Repository, subject: Digest) -> list[Descriptor]:
    """What the index behind the fallback tag names, is here, and does refer to `subject`."""
    index = _manifest(repository, fallback_tag(subject))
    if index is None or not index.is_index:
        return []
    found = ((each.digest, _manifest(repository, each.digest)) for each in index.manifests)
    return [
        referrer.descriptor(digest.algorithm)
        for digest, referrer in found
        if referrer is not None and referrer.subject is not None and referrer.subject.digest == subject
    ]


def _manifest(repository: Repository, reference: Tag | Digest) -> Manifest | None:
    try:
        descriptor, body = repository.read_manifest(reference)
        return parse_manifest(body, descriptor.media_type)
    except MirrorflowError:
        return None
