"""Sigstore bundles as JSON: what is needed beside the library, and for keys, which it does not know."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from tasks.trust.errors import Refused
from tasks.trust.formats.dsse import DsseEnvelope, read_envelope
from tasks.trust.formats.texts import expect, json_object, unbase64

LARGEST_BUNDLE: Final = 32 * 2**20
# sigstore protobuf-specs, "Bundle media types"; the library refuses others too.
_MEDIA_TYPES: Final = frozenset(
    {
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "application/vnd.dev.sigstore.bundle+json;version=0.3",
        "application/vnd.dev.sigstore.bundle.v0.3+json",
    }
)


@dataclass(frozen=True, slots=True)
class BundleParts:
    """`public_key`: signed by a key that the bundle only hints at. Exactly one of `envelope`, `signature`.

    `hinted_key`: SHA-256 of that key in hex as far as the hint is one, for a reason; it proves nothing.
    """

    public_key: bool
    log_entries: tuple[dict[str, Any], ...]
    envelope: DsseEnvelope | None
    signature: bytes | None
    claimed_digest: bytes | None
    hinted_key: str = ""


def read_bundle(content: bytes) -> BundleParts:
    """Raises `Refused`. A key that stands twice is refused: two parsers would take two different ones."""
    if len(content) > LARGEST_BUNDLE:
        raise Refused(f"the bundle is larger than {LARGEST_BUNDLE} bytes")
    document = json_object(content, "the bundle")
    if document.get("mediaType") not in _MEDIA_TYPES:
        raise Refused("the bundle is of a version that is not known")
    material = expect(document.get("verificationMaterial"), dict, "verificationMaterial")
    envelope, message = document.get("dsseEnvelope"), document.get("messageSignature")
    if (envelope is None) == (message is None):
        raise Refused("the bundle has to hold one envelope or one signature")
    signature, digest = (None, None) if message is None else _message(message)
    return BundleParts(
        public_key=_is_by_key(material),
        log_entries=tuple(expect(material.get("tlogEntries") or [], list, "tlogEntries")),
        envelope=None if envelope is None else read_envelope(expect(envelope, dict, "dsseEnvelope")),
        signature=signature,
        claimed_digest=digest,
        hinted_key=_hinted_key(material.get("publicKey")),
    )


def _is_by_key(material: dict[str, Any]) -> bool:
    names = ("publicKey", "certificate", "x509CertificateChain")
    kinds = [name for name in names if material.get(name) is not None]
    if len(kinds) != 1:
        raise Refused("the bundle has to name one certificate or one key")
    return kinds == ["publicKey"]


def _hinted_key(found: Any) -> str:
    hint = found.get("hint") if isinstance(found, dict) else None
    try:
        digest = unbase64(hint, "the hint") if hint else b""
    except Refused:  # any text may stand there
        return ""
    return digest.hex() if len(digest) == 32 else ""


def _message(found: Any) -> tuple[bytes, bytes | None]:
    message = expect(found, dict, "messageSignature")
    signature = unbase64(message.get("signature"), "the bundle's signature")
    digest = message.get("messageDigest")
    if digest is None:
        return signature, None
    digest = expect(digest, dict, "messageDigest")
    if digest.get("algorithm") != "SHA2_256":
        raise Refused("the bundle's digest is not SHA-256")
    return signature, unbase64(digest.get("digest"), "the bundle's digest")


def entry_json(entry: dict[str, Any]) -> bytes:
    """One log entry in the form that the library's model reads."""
    return json.dumps(expect(entry, dict, "a log entry")).encode()
