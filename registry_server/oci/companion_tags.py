"""Tags that are named after the digest of another manifest: cosign's companions, and lists of referrers.

cosign writes `sha256-<hex>.sig`, `.att` and `.sbom` (sigstore/cosign specs/SIGNATURE_SPEC.md). A client keeps
the list of a manifest's referrers under `sha256-<hex>` where a registry lacks the API (distribution-spec,
"Referrers Tag Schema"). Registries and tools name images so as well, so there the content decides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry_server.oci.descriptor import Platform
    from registry_server.oci.manifest import Manifest

_COMPANION: Final = re.compile(
    r"(?P<subject>sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})\.(?:sig|att|sbom)", re.ASCII
)
# sha512 is cut (`fallback_tag`); some clients do not cut it.
_LIST: Final = re.compile(r"sha256-[0-9a-f]{64}|sha512-[0-9a-f]{64}(?:[0-9a-f]{64})?", re.ASCII)
_UNKNOWN: Final = "unknown"


def is_companion_tag(tag: str) -> bool:
    """Whether the tag names a companion by the digest of its subject: `sha256-<hex>.sig`."""
    return _COMPANION.fullmatch(tag) is not None


def subject_of(tag: str) -> Digest | None:
    """The digest of what the companion under this tag belongs to; None for any other tag."""
    found = _COMPANION.fullmatch(tag)
    return Digest(found["subject"].replace("-", ":", 1)) if found else None


def may_be_referrers_list(tag: str) -> bool:
    """Whether a list of referrers could be under this tag: `sha256-<hex>`."""
    return _LIST.fullmatch(tag) is not None


def fallback_tag(subject: Digest) -> Tag:
    """Where clients keep the list of what refers to `subject`, where there is no API: `sha256-<hex>`.

    distribution-spec, "Referrers Tag Schema": the algorithm is cut after 32 characters, the rest after 64.
    """
    return Tag(f"{subject.algorithm[:32]}-{subject.hex[:64]}")


def is_named_after(tag: str, digest: Digest) -> bool:
    """Whether the tag is made of this digest. A list cannot be named after its own digest."""
    return digest.replace(":", "-", 1).startswith(tag)


def is_referrers_list(tag: str, digest: Digest, manifest: Manifest) -> bool:
    """Whether the tag holds a list of referrers, and no image: an index whose entries run nowhere."""
    return (
        may_be_referrers_list(tag)
        and manifest.is_index
        and not is_named_after(tag, digest)
        and not runs_somewhere(child.platform for child in manifest.manifests)
    )


def runs_somewhere(platforms: Iterable[Platform | None]) -> bool:
    """Whether entries of an index are for a platform. BuildKit's attestations say `unknown/unknown`."""
    return any(each is not None and each.os not in ("", _UNKNOWN) for each in platforms)
