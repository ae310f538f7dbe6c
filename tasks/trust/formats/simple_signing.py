"""Cosign's signatures of images: the annotations of a layer, and the payload ("simple signing").

Cosign, SIGNATURE_SPEC.md "Object Types" and "Payloads"; containers/image, containers-signature(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tasks.trust.errors import Refused
from tasks.trust.formats.texts import expect, json_object, unbase64

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.oci.digest import Digest

MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
_TYPE = "cosign container image signature"
SIGNATURE: Final = "dev.cosignproject.cosign/signature"
CERTIFICATE: Final = "dev.sigstore.cosign/certificate"
CHAIN: Final = "dev.sigstore.cosign/chain"
REKOR: Final = "dev.sigstore.cosign/bundle"
TIMESTAMP: Final = "dev.sigstore.cosign/rfc3161timestamp"


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


def signature_of(annotations: Mapping[str, str]) -> bytes:
    """The signature over the payload; cosign and others may have broken its base64 into lines."""
    return unbase64(annotations.get(SIGNATURE), "the signature annotation", lines=True)


def timestamp_of(annotations: Mapping[str, str]) -> bytes | None:
    """The TimeStampResp in DER."""
    text = annotations.get(TIMESTAMP)
    if not text:
        return None
    document = json_object(text, "the timestamp annotation")
    return unbase64(document.get("SignedRFC3161Timestamp"), "the timestamp")


def certificate_of(annotations: Mapping[str, str]) -> bytes:
    """The PEM of the signing certificate."""
    text = annotations.get(CERTIFICATE)
    if not text:
        raise Refused("it comes without a certificate")
    return text.encode()
