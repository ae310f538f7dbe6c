"""Keyless signatures that no transparency log has: a timestamp authority dates them.

GitHub signs attestations of private repositories so: a certificate of its own Fulcio, an RFC 3161 timestamp,
no log entry, no SCT. A log may be absent only where the trust root that the policy names has none; else
whoever strips the entry would get rid of the log. The same holds for SCTs: they are checked where the root
names certificate transparency logs.
"""

# ruff: noqa: SLF001 - private names of sigstore, for the reasons in sigstore_adapter.py
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID
from sigstore import dsse
from sigstore._internal.sct import verify_sct
from sigstore._internal.trust import KeyringPurpose
from sigstore_models.bundle import v1 as bundle_v1

from tasks.trust.authorities.certificate_identity import read_identity
from tasks.trust.candidates import SigstoreBundle
from tasks.trust.errors import Refused, refusing
from tasks.trust.formats.dsse import DsseEnvelope, read_statement
from tasks.trust.formats.signature_bundle import read_bundle
from tasks.trust.sigstore.adapter import CheckedBundle, CheckingVerifier
from tasks.trust.verdict import Evidence

if TYPE_CHECKING:
    from datetime import datetime

    from sigstore._internal.timestamp import TimestampVerificationResult
    from sigstore.models import TrustedRoot

    from tasks.trust.authorities.by_certificate import IdentityRule
    from tasks.trust.candidates import Candidate, SigningTarget
    from tasks.trust.sigstore.root import SigstoreRoot


@dataclass(frozen=True, slots=True)
class TimestampedAuthority:
    """An identity for which a CA of `root` vouches, at a time for which a timestamp authority of it does."""

    name: str
    root: SigstoreRoot
    rule: IdentityRule

    @property
    def formats(self) -> frozenset[str]:
        return frozenset({"bundle"})

    def check(self, candidate: Candidate, image: SigningTarget) -> Evidence:
        """Raises `Refused`."""
        if not isinstance(candidate, SigstoreBundle):
            raise Refused("not a Sigstore bundle")
        with refusing("not a valid keyless signature with a timestamp"):
            bundle = _read(candidate.content)
            when = self._dated(bundle)
            identity = read_identity(bundle.signing_certificate)
            self.rule.check(identity)
            signed = {"who": identity.subject, "issuer": identity.issuer, "when": when}
            signer = f"{identity.issuer} {identity.subject}"
            if bundle._dsse_envelope is None:
                _check_message(bundle, image)
                return Evidence(signer=signer, **signed)  # type: ignore[arg-type] # by name
            payload = dsse._verify(_key(bundle.signing_certificate), bundle._dsse_envelope)
            kind = bundle._dsse_envelope._inner.payload_type
            statement = read_statement(DsseEnvelope(kind, payload, b""), image.digest)
            return Evidence(
                signer=signer,
                predicate_type=statement.predicate_type,
                statement=statement.document,
                annotations=statement.annotations,
                **signed,  # type: ignore[arg-type] # as above
            )

    def _dated(self, bundle: CheckedBundle) -> datetime:
        """The time of signing, at which the certificate was valid and led to a CA of the root."""
        verifier = TimestampVerifier(self.root.root)
        times = verifier._verify_timestamp_authority(bundle)
        if not times:
            raise Refused("no timestamp authority of the trust root vouches for its time")
        for found in times:
            verifier.check_certificate(bundle.signing_certificate, found)
        return max(found.time for found in times)


class TimestampVerifier(CheckingVerifier):
    """The library's checks of timestamps and certificates; its constructor wants a log, and has no other use
    for it than to ask it online."""

    def __init__(self, root: TrustedRoot) -> None:
        self._fulcio_certificate_chain = root.get_fulcio_certs()
        self._trusted_root = root

    def check_certificate(self, leaf: x509.Certificate, when: TimestampVerificationResult) -> None:
        """At this time. Raises `Refused`, and what the library raises."""
        chain = self._verify_chain_at_time(leaf, when)
        if not leaf.not_valid_before_utc <= when.time <= leaf.not_valid_after_utc:
            raise Refused("the certificate was not valid when the signature was made")
        if self._trusted_root._inner.ctlogs:
            verify_sct(leaf, chain, self._trusted_root.ct_keyring(KeyringPurpose.VERIFY))
        if not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            raise Refused("the certificate is not for signatures")
        extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.CODE_SIGNING not in extended:
            raise Refused("the certificate is not for code")


def _read(content: bytes) -> CheckedBundle:
    """The library's type; its own parser refuses a bundle without a log entry."""
    if read_bundle(content).public_key:
        raise Refused("signed by a key, not by an identity")
    bundle = object.__new__(CheckedBundle)
    bundle._inner = bundle_v1.Bundle.from_json(content)
    material = bundle._inner.verification_material
    if material.certificate is not None:
        raw = material.certificate.raw_bytes
    else:
        assert material.x509_certificate_chain is not None, "`read_bundle` has seen one of them"
        raw = material.x509_certificate_chain.certificates[0].raw_bytes
    bundle._signing_certificate = x509.load_der_x509_certificate(raw)
    return bundle


def _key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused("the certificate's key is not ECDSA, as Fulcio's are")
    return key


def _check_message(bundle: CheckedBundle, image: SigningTarget) -> None:
    """A signature over the bytes of the manifest, of which we have the digest."""
    if image.digest.algorithm != "sha256":
        raise Refused("bundles over a manifest itself are known for sha256 digests only")
    prehashed = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
    try:
        _key(bundle.signing_certificate).verify(bundle.signature, bytes.fromhex(image.digest.hex), prehashed)
    except InvalidSignature:
        raise Refused("the signature is not of this image") from None
