"""What a transparency log entry says, held against what was verified (the lesson of CVE-2022-36056).

A log entry proves nothing about a signature unless its body names this signature, this content and this
key or certificate. The kinds are Rekor's: hashedrekord, dsse, intoto.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from tasks.trust.authorities.keys import spki
from tasks.trust.errors import Refused
from tasks.trust.formats.texts import expect, json_object, unbase64, unhex

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.trust.formats.dsse import DsseEnvelope

_MISMATCH = "the log entry is about something else"
_V2_HASHES = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}


@dataclass(frozen=True, slots=True)
class Signed:
    """What the entry has to be about.

    `verifier` is the DER of the certificate, or of the SubjectPublicKeyInfo. `message` is None where only
    its SHA-256 is known (a signature over the image's manifest). `raw_envelope` is the envelope's own text.
    """

    signature: bytes
    verifier: bytes
    sha256: bytes
    message: bytes | None = None
    envelope: DsseEnvelope | None = None
    raw_envelope: bytes | None = None

    def hash(self, name: str) -> bytes:
        """The hash of the signed message. Raises `Refused` when it cannot be known."""
        if name == "sha256":
            return self.sha256
        if self.message is None or name not in _V2_HASHES.values():
            raise Refused(f"the log entry uses the hash {name[:20]!r}")
        return hashlib.new(name, self.message).digest()


def match_body(body: bytes, signed: Signed) -> None:
    """Raises `Refused` unless the entry's body is exactly about `signed`."""
    document = json_object(body, "the log entry")
    kind = (document.get("kind"), document.get("apiVersion"))
    check = _CHECKS.get(kind)
    if check is None:
        raise Refused(f"log entries of kind {str(kind[0])[:30]!r} {str(kind[1])[:10]!r} are not known")
    if (kind[0] in {"dsse", "intoto"}) != (signed.envelope is not None) and kind[1] == "0.0.1":
        raise Refused(_MISMATCH)
    check(expect(document.get("spec"), dict, "the log entry's spec"), signed)


def _hashedrekord(spec: dict[str, Any], signed: Signed) -> None:
    found = _at(spec, "data", "hash")
    signature = _at(spec, "signature")
    _same(unhex(found.get("value"), "the entry's hash"), signed.hash(_text(found, "algorithm")))
    _same(unbase64(signature.get("content"), "the entry's signature"), signed.signature)
    _same_verifier(_at(signature, "publicKey").get("content"), signed)


def _hashedrekord_v2(spec: dict[str, Any], signed: Signed) -> None:
    record = _at(spec, "hashedRekordV002")
    data, signature = _at(record, "data"), _at(record, "signature")
    name = _V2_HASHES.get(_text(data, "algorithm"), "unknown")
    _same(unbase64(data.get("digest"), "the entry's digest"), signed.hash(name))
    _same(unbase64(signature.get("content"), "the entry's signature"), signed.signature)
    verifier = _at(signature, "verifier")
    holder = verifier.get("publicKey") or verifier.get("x509Certificate")
    _same(unbase64(_text_of(holder, "rawBytes"), "the entry's verifier"), signed.verifier)


def _dsse(spec: dict[str, Any], signed: Signed) -> None:
    _payload(_at(spec, "payloadHash"), signed)
    if signed.raw_envelope is not None:
        _hash(_at(spec, "envelopeHash"), signed.raw_envelope)
    signatures = expect(spec.get("signatures"), list, "the entry's signatures")
    if len(signatures) != 1:
        raise Refused(_MISMATCH)
    one = expect(signatures[0], dict, "the entry's signature")
    _same(unbase64(one.get("signature"), "the entry's signature"), signed.signature)
    _same_verifier(one.get("verifier"), signed)


def _intoto_v1(spec: dict[str, Any], signed: Signed) -> None:
    """The signature is bound by the hash of the whole envelope only, so its own text must be at hand."""
    if signed.raw_envelope is None:
        raise Refused("an intoto 0.0.1 log entry cannot be held against a bundle")
    _hash(_at(spec, "content", "hash"), signed.raw_envelope)
    _same_verifier(spec.get("publicKey"), signed)


def _intoto_v2(spec: dict[str, Any], signed: Signed) -> None:
    content = _at(spec, "content")
    _payload(_at(content, "payloadHash"), signed)
    signatures = expect(_at(content, "envelope").get("signatures"), list, "the entry's signatures")
    if len(signatures) != 1:
        raise Refused(_MISMATCH)
    one = expect(signatures[0], dict, "the entry's signature")
    # The schema encodes twice: base64 of the base64 that stands in the envelope.
    inner = base64.b64encode(signed.signature)
    _same(unbase64(one.get("sig"), "the entry's signature"), inner)
    _same_verifier(one.get("publicKey"), signed)


_CHECKS: dict[tuple[Any, Any], Callable[[dict[str, Any], Signed], None]] = {
    ("hashedrekord", "0.0.1"): _hashedrekord,
    ("hashedrekord", "0.0.2"): _hashedrekord_v2,
    ("dsse", "0.0.1"): _dsse,
    ("intoto", "0.0.1"): _intoto_v1,
    ("intoto", "0.0.2"): _intoto_v2,
}


def _payload(found: dict[str, Any], signed: Signed) -> None:
    if signed.envelope is None:
        raise Refused(_MISMATCH)
    _hash(found, signed.envelope.payload)


def _hash(found: dict[str, Any], content: bytes) -> None:
    if found.get("algorithm") != "sha256":
        raise Refused("the log entry does not use SHA-256")
    _same(unhex(found.get("value"), "the entry's hash"), hashlib.sha256(content).digest())


def _same_verifier(content: Any, signed: Signed) -> None:
    pem = unbase64(content, "the entry's public key")
    if b"-----BEGIN CERTIFICATE-----" in pem:
        found = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    else:
        found = spki(load_pem_public_key(pem))
    _same(found, signed.verifier)


def _same(found: bytes, wanted: bytes) -> None:
    if found != wanted:
        raise Refused(_MISMATCH)


def _at(document: dict[str, Any], *path: str) -> dict[str, Any]:
    for key in path:
        document = expect(document.get(key), dict, f"the log entry's {key}")
    return document


def _text(document: dict[str, Any], key: str) -> str:
    found: str = expect(document.get(key), str, f"the log entry's {key}")
    return found


def _text_of(document: Any, key: str) -> str:
    return _text(expect(document, dict, "the log entry's verifier"), key)
