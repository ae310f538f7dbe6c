"""Public keys, and signatures by them (cosign, SIGNATURE_SPEC.md "Signature Schemes").

Imported only when a policy names a key or a certificate: `cryptography` takes its time to load.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from profiles.errors import Refusal
from profiles.model.trust.key_material import read_public_key, usable_key
from tasks.trust.errors import Refused, TrustBroken

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

Usable = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_HASHES: Final = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_CURVE_HASH: Final = {"secp256r1": "sha256", "secp384r1": "sha384", "secp521r1": "sha512"}


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that a policy names. `hash_name` is "auto" or the one hash that its signatures use."""

    key: Usable = field(repr=False)
    hash_name: str = "auto"

    @classmethod
    def from_pem(cls, pem: bytes, hash_name: str = "auto") -> TrustedKey:
        """Raises `TrustBroken`."""
        try:
            return cls(read_public_key(pem), hash_name)
        except Refusal as error:
            raise TrustBroken(str(error)) from error

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo in hex: what makes a key the same key."""
        return fingerprint(self.key)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raises `Refused`."""
        if not any(signed_by(self.key, signature, message, name) for name in self._hashes()):
            raise Refused(f"the signature is not by key sha256:{self.fingerprint[:12]}")

    def _hashes(self) -> tuple[str, ...]:
        """cosign does not write down which hash it signs: SHA-256 until version 2, the curve's own since
        version 3 (in bundles since 2.4)."""
        if self.hash_name != "auto":
            return (self.hash_name,)
        if not isinstance(self.key, ec.EllipticCurvePublicKey):
            return ("sha256",)
        return tuple(dict.fromkeys((_CURVE_HASH[self.key.curve.name], "sha256")))


def usable(key: PublicKeyTypes) -> Usable:
    """`key`, if it is of a kind and size that we verify with. Raises `Refused`."""
    try:
        return usable_key(key)
    except Refusal as error:
        raise Refused(str(error)) from error


def signed_by(key: Usable, signature: bytes, message: bytes, hash_name: str) -> bool:
    """ECDSA in DER, RSA in PKCS #1 v1.5, Ed25519 pure or prehashed: what cosign writes."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            return _signed_by_ed25519(key, signature, message)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), _HASHES[hash_name])
        else:
            key.verify(signature, message, ec.ECDSA(_HASHES[hash_name]))
    except InvalidSignature:
        return False
    return True


def _signed_by_ed25519(key: ed25519.Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """RFC 8032 section 5.1: Ed25519, or Ed25519ph, which cosign 3 writes. A signature of the one is none of
    the other."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return _signed_by_ed25519ph(key, signature, message)
    return True


def _signed_by_ed25519ph(key: ed25519.Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    from Crypto.Hash import SHA512
    from Crypto.PublicKey import ECC
    from Crypto.Signature import eddsa

    try:
        eddsa.new(ECC.import_key(spki(key)), "rfc8032").verify(SHA512.new(message), signature)
    except ValueError:
        return False
    return True


def spki(key: PublicKeyTypes) -> bytes:
    """The SubjectPublicKeyInfo in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: PublicKeyTypes) -> str:
    return hashlib.sha256(spki(key)).hexdigest()
