"""Signatures by keys that the profile names: cosign's legacy form, bundles and attestations.

sigstore-python has none of it (its issue 1244), so key and envelope are checked here; a log entry's proof,
checkpoint and promise are the library's business again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils

from tasks.trust.authorities.keys import spki
from tasks.trust.candidates import AttestationLayer, CosignLayer, SigstoreBundle
from tasks.trust.errors import Refused, refusing
from tasks.trust.formats.dsse import read_envelope, read_statement
from tasks.trust.formats.log_body import Signed, match_body
from tasks.trust.formats.signature_bundle import entry_json, read_bundle
from tasks.trust.formats.simple_signing import REKOR, read_claims, signature_of
from tasks.trust.formats.texts import json_object
from tasks.trust.verdict import Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from tasks.trust.authorities.keys import TrustedKey
    from tasks.trust.candidates import Candidate, SigningTarget
    from tasks.trust.formats.dsse import DsseEnvelope
    from tasks.trust.formats.signature_bundle import BundleParts
    from tasks.trust.sigstore.root import SigstoreRoot

Transparency = Literal["required", "optional", "ignore"]


@dataclass(frozen=True, slots=True)
class Logged:
    """When and where a log has the signature."""

    when: datetime | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class KeyAuthority:
    """Whoever holds the private half of `key`. `root` names the logs; without one none is looked at."""

    name: str
    key: TrustedKey
    transparency: Transparency = "ignore"
    root: SigstoreRoot | None = None

    @property
    def formats(self) -> frozenset[str]:
        return frozenset({"bundle", "legacy"})

    def check(self, candidate: Candidate, image: SigningTarget) -> Evidence:
        """Raises `Refused`."""
        with refusing("not a valid signature by a key"):
            if isinstance(candidate, SigstoreBundle):
                return self._bundle(candidate, image)
            if isinstance(candidate, CosignLayer):
                return self._layer(candidate, image)
            if isinstance(candidate, AttestationLayer):
                return self._attestation(candidate, image)
        raise Refused("not a signature by a key")

    def _layer(self, candidate: CosignLayer, image: SigningTarget) -> Evidence:
        claims = read_claims(candidate.payload, image.digest)
        signature = signature_of(candidate.annotations)
        self.key.verify(signature, candidate.payload)
        signed = Signed(signature, spki(self.key.key), _sha256(candidate.payload), candidate.payload)
        logged = self._annotated(candidate.annotations, signed)
        return self._evidence(logged, docker_reference=claims.docker_reference, annotations=claims.optional)

    def _attestation(self, candidate: AttestationLayer, image: SigningTarget) -> Evidence:
        envelope = read_envelope(json_object(candidate.envelope, "the envelope"))
        self.key.verify(envelope.signature, envelope.pae)
        statement = read_statement(envelope, image.digest)
        signed = Signed(
            envelope.signature,
            spki(self.key.key),
            _sha256(envelope.pae),
            envelope.pae,
            envelope,
            candidate.envelope,
        )
        return self._evidence(
            self._annotated(candidate.annotations, signed),
            predicate_type=statement.predicate_type,
            statement=statement.document,
            annotations=statement.annotations,
        )

    def _bundle(self, candidate: SigstoreBundle, image: SigningTarget) -> Evidence:
        parts = read_bundle(candidate.content)
        if not parts.public_key:
            raise Refused("signed with a certificate, not by a key")
        if parts.envelope is None:
            return self._evidence(self._in_bundle(parts, self._manifest_signature(parts, image)))
        self._verify(parts, parts.envelope)
        statement = read_statement(parts.envelope, image.digest)
        pae, verifier = parts.envelope.pae, spki(self.key.key)
        signed = Signed(parts.envelope.signature, verifier, _sha256(pae), pae, parts.envelope)
        return self._evidence(
            self._in_bundle(parts, signed),
            predicate_type=statement.predicate_type,
            statement=statement.document,
            annotations=statement.annotations,
        )

    def _verify(self, parts: BundleParts, envelope: DsseEnvelope) -> None:
        """Raises `Refused`, with the key that the bundle says it is by."""
        try:
            self.key.verify(envelope.signature, envelope.pae)
        except Refused as error:
            hinted = f"; the bundle names key sha256:{parts.hinted_key[:12]}" if parts.hinted_key else ""
            raise Refused(f"{error}{hinted}") from error

    def _manifest_signature(self, parts: BundleParts, image: SigningTarget) -> Signed:
        """A signature over the bytes of the manifest, of which we have the digest."""
        digest = bytes.fromhex(image.digest.hex)
        if image.digest.algorithm != "sha256" or parts.claimed_digest not in (None, digest):
            raise Refused("the signature is of something else")
        signature = parts.signature or b""
        _verify_digest(self.key, signature, digest)
        return Signed(signature, spki(self.key.key), digest)

    def _annotated(self, annotations: Mapping[str, str], signed: Signed) -> Logged:
        text = annotations.get(REKOR)
        if not self._wants_log(present=bool(text)) or self.root is None or not text:
            return Logged()
        from tasks.trust.sigstore.adapter import RekorAnnotation, verify_entry

        rekor = RekorAnnotation.parse(text)
        self.root.check_log(rekor.log_id, rekor.when)
        verify_entry(rekor.entry(), self.root)
        match_body(rekor.body, signed)
        return Logged(rekor.when, rekor.log_index)

    def _in_bundle(self, parts: BundleParts, signed: Signed) -> Logged:
        if not self._wants_log(present=bool(parts.log_entries)) or self.root is None:
            return Logged()
        if len(parts.log_entries) != 1:
            raise Refused(f"the bundle has {len(parts.log_entries)} log entries; expected one")
        from tasks.trust.sigstore.adapter import proven_entry

        body, log_id, when, index = proven_entry(entry_json(parts.log_entries[0]), self.root)
        self.root.check_log(log_id, when)
        match_body(body, signed)
        return Logged(when, index)

    def _wants_log(self, *, present: bool) -> bool:
        if self.transparency == "required" and not present:
            raise Refused("it is in no transparency log, and the policy requires one")
        return self.transparency != "ignore" and present

    def _evidence(self, logged: Logged, **more: Any) -> Evidence:
        return Evidence(
            signer=f"key {self.key.fingerprint}",
            who=f"key sha256:{self.key.fingerprint[:12]}",
            when=logged.when,
            log_index=logged.index,
            **more,
        )


@dataclass(frozen=True, slots=True)
class AnyKey:
    """Whoever holds the private half of one of several keys: during a rotation there are two."""

    name: str
    keys: tuple[KeyAuthority, ...]

    @property
    def formats(self) -> frozenset[str]:
        return self.keys[0].formats

    def check(self, candidate: Candidate, image: SigningTarget) -> Evidence:
        """Raises `Refused`."""
        refusals = []
        for key in self.keys:
            try:
                return key.check(candidate, image)
            except Refused as error:
                refusals.append(str(error))
        reasons = "; ".join(dict.fromkeys(refusals))
        raise Refused(f"none of {len(self.keys)} keys: {reasons}")


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _verify_digest(trusted: TrustedKey, signature: bytes, digest: bytes) -> None:
    """As `TrustedKey.verify`, where only the SHA-256 of the message is known."""
    key, prehashed = trusted.key, utils.Prehashed(hashes.SHA256())
    try:
        if isinstance(key, ed25519.Ed25519PublicKey) or trusted.hash_name not in ("auto", "sha256"):
            raise Refused("this key does not sign SHA-256 digests")
        if isinstance(key, rsa.RSAPublicKey):
            from cryptography.hazmat.primitives.asymmetric import padding

            key.verify(signature, digest, padding.PKCS1v15(), prehashed)
        else:
            key.verify(signature, digest, ec.ECDSA(prehashed))
    except InvalidSignature:
        raise Refused("the signature is not by this key") from None
