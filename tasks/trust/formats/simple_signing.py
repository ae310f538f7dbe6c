(
    """Cosign's payload for images ("simple signing"): what it must say of the image.

Cosign, SIGNATURE_SPEC.md "Payloads"; containers/image, containers-signature(5).
"""
    ""
)

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.trust.errors import Refused
from tasks.trust.formats.texts import expect, json_object

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest

MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
_TYPE = "cosign container image signature"


@dataclass(frozen=True, slots=True)
class Claims:
    """What the signer says beside the digest."""

    docker_reference: str
    optional: dict[str, Any]


def read_claims(payload: bytes, image: Digest) -> Claims:
    """Raises `Refused` unless `payload` is about `image`."""
    document = json_object(payload, "the payload")
    critical = expect(document.get("critical"), dict, "critical")
    if critical.get("type") != _TYPE:
        raise Refused("the payload is not a cosign image signature")
    claimed = expect(critical.get("image"), dict, "critical.image").get("docker-manifest-digest")
    if claimed != image:
        raise Refused("the signature is of another image")
    identity = expect(critical.get("identity"), dict, "critical.identity")
    optional = document.get("optional")
    return Claims(
        expect(identity.get("docker-reference"), str, "docker-reference"),
        {} if optional is None else expect(optional, dict, "optional"),
    )
