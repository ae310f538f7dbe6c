"""Signing a document with a private key of a file: a DSSE envelope in a Sigstore bundle.

Nothing is asked of a log or a timestamp authority: that would need the network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from profiles.errors import Refusal
from profiles.model.trust.key_material import read_file, usable_key
from tasks.trust.authorities.keys import spki
from tasks.trust.errors import TrustError
from tasks.trust.formats.dsse import IN_TOTO, DsseEnvelope

if TYPE_CHECKING:
    from pathlib import Path

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_COSIGN: Final = (b"-----BEGIN ENCRYPTED SIGSTORE", b"-----BEGIN ENCRYPTED COSIGN")
_EXAMPLE: Final = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out audit.key"


class SigningKeyUnusable(TrustError):
    """The file is no private key that can be used, or its password is another one."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that signs."""

    key: PrivateKey = field(repr=False)

    @classmethod
    def read(cls, path: Path, password: str | None = None) -> SigningKey:
        """From PEM; `password` for one that is encrypted. Raises `SigningKeyUnusable`."""
        try:
            key = _loaded(read_file(path), password)
            usable_key(key.public_key())
        except Refusal as error:
            raise SigningKeyUnusable(f"{path}: {error.found}; {error.write}") from error
        assert isinstance(key, PrivateKey), "usable_key has looked at its kind"
        return cls(key)

    def bundle(self, statement: bytes) -> bytes:
        """An in-toto statement, signed: Sigstore bundle v0.3, JSON.

        The key is named by a hint: whoever verifies has it (protobuf-specs, sigstore_bundle.proto).
        """
        signature = self.sign(DsseEnvelope(IN_TOTO, statement, b"").pae)
        document = {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self._hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": _base64(statement),
                "payloadType": IN_TOTO,
                "signatures": [{"sig": _base64(signature)}],
            },
        }
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"

    def sign(self, message: bytes) -> bytes:
        """With SHA-256 whatever the curve: `cosign verify-blob-attestation --key` (3.1) tries no other hash,
        and sigstore-go takes it for P-384 and P-521 beside the curve's own.
        """
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(message)
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    @property
    def _hint(self) -> str:
        """As cosign makes it."""
        return _base64(hashlib.sha256(spki(self.key.public_key())).digest())


def _loaded(content: bytes, password: str | None) -> PrivateKey:
    """Raises `Refusal`; neither the key nor the password is in its words."""
    if content.lstrip().startswith(_COSIGN):
        raise Refusal(
            "a key in cosign's own encryption, which cannot be read here, and cosign exports none",
            f"make a PEM key, '{_EXAMPLE}'; 'cosign import-key-pair --key' takes it over for cosign",
        )
    encrypted = b"ENCRYPTED" in content
    if encrypted and not password:
        raise Refusal("the key is encrypted", "put its password into MIRRORFLOW_ATTEST_PASSWORD")
    try:
        return load_pem_private_key(content, password.encode() if password and encrypted else None)  # type: ignore[return-value] # usable_key is asked about its kind
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise Refusal("the key cannot be decrypted", "check MIRRORFLOW_ATTEST_PASSWORD") from error
        raise Refusal("not a private key in PEM", f"make one, e.g. '{_EXAMPLE}'") from error


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
