"""What may be a signature: bytes from the registry with the one thing known of them, where they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class SigningTarget:
    """What has to be signed. `size` is None where it is not known."""

    digest: Digest
    media_type: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class CosignLayer:
    """A layer of cosign's legacy manifest: a simple signing payload and annotations that sign it."""

    where: str
    media_type: str
    payload: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(repr=False)
    format: str = "cosign"


@dataclass(frozen=True, slots=True)
class AttestationLayer:
    """A layer of a `.att` manifest: a DSSE envelope, and annotations with certificate and log entry."""

    where: str
    envelope: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(repr=False)
    format: str = "attestation"


@dataclass(frozen=True, slots=True)
class SigstoreBundle:
    """A Sigstore bundle, as JSON."""

    where: str
    content: bytes = field(repr=False)
    format: str = "bundle"


@dataclass(frozen=True, slots=True)
class NotationSignature:
    """An envelope of the Notary Project, and the subject of the manifest that holds it."""

    where: str
    media_type: str
    content: bytes = field(repr=False)
    subject: Descriptor | None = None
    format: str = "notation"


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something that looked like a signature and cannot be read as one."""

    where: str
    reason: str
    format: str = "unknown"


Candidate = CosignLayer | AttestationLayer | SigstoreBundle | NotationSignature | Unusable
