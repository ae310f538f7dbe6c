"""Certificate chains and revocation lists with single things wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])


def name(text: str) -> x509.Name:
    parts = {
        NameOID.COUNTRY_NAME: "US",
        NameOID.STATE_OR_PROVINCE_NAME: "WA",
        NameOID.ORGANIZATION_NAME: "acme",
    }
    attributes = [x509.NameAttribute(oid, value) for oid, value in parts.items()]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*on: str) -> x509.KeyUsage:
    names = (
        *(
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
        ),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{each: each in on for each in names})


@dataclass
class Made:
    """A certificate, its key, and how it was made."""

    subject: str
    issuer: Made | None = None
    extensions: list[tuple[x509.ExtensionType, bool]] = field(default_factory=list)
    start: datetime = NOW - timedelta(days=10)
    end: datetime = NOW + timedelta(days=10)
    algorithm: Any = field(default_factory=hashes.SHA256)
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        above = self.issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(self.subject))
            .issuer_name(name(above.subject))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.start)
            .not_valid_after(self.end)
        )
        for extension, critical in self.extensions:
            builder = builder.add_extension(extension, critical=critical)
        self.certificate = builder.sign(above.key, self.algorithm)


def ca(subject: str, issuer: Made | None = None, *, path: int | None = None, **more: Any) -> Made:
    extensions = [(x509.BasicConstraints(ca=True, path_length=path), True), (usage("key_cert_sign"), True)]
    return Made(subject, issuer, **({"extensions": extensions} | more))


def leaf(issuer: Made | None, *extensions: tuple[x509.ExtensionType, bool], **more: Any) -> Made:
    """Without `extensions`: one that is right."""
    found = list(extensions) or [(usage("digital_signature"), True), (CODE, False)]
    return Made("signer", issuer, found, **more)


def crl(
    issuer: Made,
    *revoked: x509.Certificate,
    number: int = 1,
    delta_of: int | None = None,
    reason: x509.ReasonFlags | None = None,
    updated: datetime = NOW - timedelta(days=1),
    days: int = 7,
    critical: x509.ExtensionType | None = None,
) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer.subject))
        .last_update(updated)
        .next_update(updated + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    if delta_of is not None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(delta_of), critical=True)
    if critical is not None:
        builder = builder.add_extension(critical, critical=True)
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
        entry = entry.revocation_date(NOW - timedelta(days=2))
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def certificates(*made: Made) -> list[x509.Certificate]:
    return [each.certificate for each in made]
