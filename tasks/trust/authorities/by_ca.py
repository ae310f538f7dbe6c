"""Signatures with certificates of a CA of one's own, as `cosign --ca-roots` takes them (RFC 5280, section 6).

No log and no timestamp dates them, so the certificates have to be valid now.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from tasks.trust.authorities.keys import TrustedKey, usable
from tasks.trust.candidates import CosignLayer
from tasks.trust.errors import Refused, refusing
from tasks.trust.formats.simple_signing import CHAIN, certificate_of, read_claims, signature_of
from tasks.trust.verdict import Evidence

if TYPE_CHECKING:
    from tasks.trust.candidates import Candidate, SigningTarget

_MOST_CERTIFICATES = 10
_EITHER = verification.Criticality.AGNOSTIC
_WEAK = ("md5", "sha1")


@dataclass(frozen=True, slots=True)
class CaAuthority:
    """Whoever holds a certificate of `roots` for `email` (and `hostname`), valid at the time of the check.

    `now` fixes that time for tests.
    """

    name: str
    roots: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    email: str | None = None
    hostname: str | None = None
    now: datetime | None = None

    @property
    def formats(self) -> frozenset[str]:
        return frozenset({"legacy"})

    def check(self, candidate: Candidate, image: SigningTarget) -> Evidence:
        """Raises `Refused`."""
        if not isinstance(candidate, CosignLayer):
            raise Refused("not a signature with a certificate of a CA")
        with refusing("not a valid signature with a certificate"):
            claims = read_claims(candidate.payload, image.digest)
            leaf = x509.load_pem_x509_certificate(certificate_of(candidate.annotations))
            self._check_chain(leaf, candidate.annotations.get(CHAIN, ""))
            self._check_names(leaf)
            key = TrustedKey(usable(leaf.public_key()))
            key.verify(signature_of(candidate.annotations), candidate.payload)
            return Evidence(
                signer=f"key {key.fingerprint}",
                who=leaf.subject.rfc4514_string(),
                issuer=leaf.issuer.rfc4514_string(),
                docker_reference=claims.docker_reference,
                annotations=claims.optional,
            )

    def _check_chain(self, leaf: x509.Certificate, chain: str) -> None:
        offered = x509.load_pem_x509_certificates(chain.encode()) if chain else []
        if len(offered) > _MOST_CERTIFICATES:
            raise Refused(f"it comes with more than {_MOST_CERTIFICATES} certificates")
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(self.roots)))
            .time(self.now or datetime.now(UTC))
            .extension_policies(ca_policy=_ca_policy(), ee_policy=_leaf_policy())
            .build_client_verifier()
        )
        for certificate in verifier.verify(leaf, [*self.intermediates, *offered]).chain:
            _refuse_weak(certificate)

    def _check_names(self, leaf: x509.Certificate) -> None:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if self.email is not None and self.email not in names.get_values_for_type(x509.RFC822Name):
            found = _listed(names.get_values_for_type(x509.RFC822Name))
            raise Refused(f"the certificate is for {found}, not for {self.email}")
        if self.hostname is not None and self.hostname not in names.get_values_for_type(x509.DNSName):
            found = _listed(names.get_values_for_type(x509.DNSName))
            raise Refused(f"the certificate is for {found}, not for {self.hostname}")


def _listed(names: list[str]) -> str:
    return ", ".join(name[:80] for name in names[:3]) or "no such name"


def _leaf_policy() -> verification.ExtensionPolicy:
    return (
        verification.ExtensionPolicy.permit_all()
        .may_be_present(x509.BasicConstraints, _EITHER, _no_ca)
        .require_present(x509.KeyUsage, _EITHER, _may_sign)
        .may_be_present(x509.ExtendedKeyUsage, _EITHER, _for_code)
    )


def _ca_policy() -> verification.ExtensionPolicy:
    """`permit_all` alone would take a CA that may not sign certificates."""
    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, _EITHER, _is_ca)
        .may_be_present(x509.KeyUsage, _EITHER, _may_certify)
        .may_be_present(x509.ExtendedKeyUsage, _EITHER, None)
    )


def _no_ca(_: Any, __: x509.Certificate, found: x509.BasicConstraints | None) -> None:
    if found is not None and found.ca:
        raise ValueError("a CA's certificate signs no images")


def _is_ca(_: Any, __: x509.Certificate, found: x509.BasicConstraints) -> None:
    if not found.ca:
        raise ValueError("an issuer that is no CA")


def _may_sign(_: Any, __: x509.Certificate, found: x509.KeyUsage) -> None:
    if not found.digital_signature:
        raise ValueError("the certificate is not for signatures")


def _may_certify(_: Any, __: x509.Certificate, found: x509.KeyUsage | None) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError("an issuer that may not sign certificates")


def _for_code(_: Any, __: x509.Certificate, found: x509.ExtendedKeyUsage | None) -> None:
    wanted = {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if found is not None and not wanted & set(found):
        raise ValueError("the certificate is not for code")


def _refuse_weak(certificate: x509.Certificate) -> None:
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None and algorithm.name in _WEAK:
        raise Refused("a certificate in the chain is signed with SHA-1 or MD5")


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER in hex."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
