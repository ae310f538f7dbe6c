"""Keyless signatures: a short-lived certificate of a Sigstore root, and a log or timestamp that dates it."""

# ruff: noqa: SLF001 - sigstore tells its bundles' envelope and log entry in no other way
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cryptography.x509 import load_pem_x509_certificate
from sigstore.hashes import Hashed
from sigstore_models.common.v1 import HashAlgorithm

from tasks.trust.authorities.certificate_identity import read_identity
from tasks.trust.candidates import AttestationLayer, CosignLayer, SigstoreBundle
from tasks.trust.errors import Refused, refusing
from tasks.trust.formats.dsse import DsseEnvelope, read_statement
from tasks.trust.formats.signature_bundle import read_bundle
from tasks.trust.formats.simple_signing import REKOR, certificate_of, read_claims, signature_of, timestamp_of
from tasks.trust.sigstore.adapter import (
    AnyCertificate,
    CheckedBundle,
    LegacyParts,
    RekorAnnotation,
    proven_index,
)
from tasks.trust.verdict import Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from tasks.trust.authorities.certificate_identity import CertificateIdentity
    from tasks.trust.candidates import Candidate, SigningTarget
    from tasks.trust.sigstore.root import SigstoreRoot


class IdentityRule(Protocol):
    """Which identities an authority stands for."""

    def check(self, identity: CertificateIdentity) -> None:
        """Raises `Refused`."""
        ...


@dataclass(frozen=True, slots=True)
class KeylessAuthority:
    """Whoever holds an identity that `rule` takes, vouched for by `root`."""

    name: str
    root: SigstoreRoot
    rule: IdentityRule

    @property
    def formats(self) -> frozenset[str]:
        return frozenset({"bundle", "legacy"})

    def check(self, candidate: Candidate, image: SigningTarget) -> Evidence:
        """Raises `Refused`."""
        with refusing("not a valid keyless signature"):
            if isinstance(candidate, SigstoreBundle):
                return self._bundle(candidate, image)
            if isinstance(candidate, CosignLayer):
                return self._layer(candidate, image)
            if isinstance(candidate, AttestationLayer):
                return self._statement(_attestation(candidate), image)
        raise Refused("not a keyless signature")

    def _bundle(self, candidate: SigstoreBundle, image: SigningTarget) -> Evidence:
        if read_bundle(candidate.content).public_key:
            raise Refused("signed by a key, not by an identity")
        bundle = CheckedBundle.from_json(candidate.content)
        if not isinstance(bundle, CheckedBundle):  # pragma: no cover - `from_json` is a classmethod
            raise Refused("the bundle cannot be read")
        if bundle._dsse_envelope is not None:
            return self._statement(bundle, image)
        self.root.verifier.verify_artifact(_hashed(image), bundle, AnyCertificate())
        return self._evidence(bundle)

    def _layer(self, candidate: CosignLayer, image: SigningTarget) -> Evidence:
        claims = read_claims(candidate.payload, image.digest)
        parts = _parts(candidate.annotations, signature=signature_of(candidate.annotations))
        bundle = self._dated(parts, candidate.annotations).bundle()
        self.root.verifier.verify_artifact(candidate.payload, bundle, AnyCertificate())
        return self._evidence(bundle, docker_reference=claims.docker_reference, annotations=claims.optional)

    def _dated(self, parts: LegacyParts, annotations: Mapping[str, str]) -> LegacyParts:
        """With its timestamp, if the root can judge one: else the library refuses it all."""
        if not self.root.timestamp_authorities:
            return parts
        return LegacyParts(
            parts.certificate, parts.rekor, signature=parts.signature, timestamp=timestamp_of(annotations)
        )

    def _statement(self, bundle: CheckedBundle, image: SigningTarget) -> Evidence:
        kind, payload = self.root.verifier.verify_dsse(bundle, AnyCertificate())
        statement = read_statement(DsseEnvelope(kind, payload, b""), image.digest)
        return self._evidence(
            bundle,
            predicate_type=statement.predicate_type,
            statement=statement.document,
            annotations=statement.annotations,
        )

    def _evidence(self, bundle: CheckedBundle, **more: Any) -> Evidence:
        entry = bundle.log_entry._inner
        for when in bundle.times:
            self.root.check_log(bytes(entry.log_id.key_id), when)
        identity = read_identity(bundle.signing_certificate)
        self.rule.check(identity)
        return Evidence(
            signer=f"{identity.issuer} {identity.subject}",
            who=identity.subject,
            issuer=identity.issuer,
            when=max(bundle.times),
            log_index=proven_index(entry),
            **more,
        )


def _hashed(image: SigningTarget) -> Hashed:
    if image.digest.algorithm != "sha256":
        raise Refused("bundles over a manifest itself are known for sha256 digests only")
    return Hashed(algorithm=HashAlgorithm.SHA2_256, digest=bytes.fromhex(image.digest.hex))


def _attestation(candidate: AttestationLayer) -> CheckedBundle:
    # Its timestamp covers the envelope's text, which the library cannot check: the log dates it.
    return _parts(candidate.annotations, envelope=candidate.envelope).bundle()


def _parts(
    annotations: Mapping[str, str], *, signature: bytes | None = None, envelope: bytes | None = None
) -> LegacyParts:
    rekor = annotations.get(REKOR)
    if not rekor:
        raise Refused("it comes without a log entry")
    certificate = load_pem_x509_certificate(certificate_of(annotations))
    return LegacyParts(certificate, RekorAnnotation.parse(rekor), signature=signature, envelope=envelope)
