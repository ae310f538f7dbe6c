"""The annotations with which cosign signs a layer (cosign, SIGNATURE_SPEC.md "Object Types")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks.trust.errors import Refused
from tasks.trust.formats.texts import json_object, unbase64

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNATURE: Final = "dev.cosignproject.cosign/signature"
CERTIFICATE: Final = "dev.sigstore.cosign/certificate"
CHAIN: Final = "dev.sigstore.cosign/chain"
REKOR: Final = "dev.sigstore.cosign/bundle"
TIMESTAMP: Final = "dev.sigstore.cosign/rfc3161timestamp"


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
