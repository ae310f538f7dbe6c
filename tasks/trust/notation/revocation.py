"""Revocation by CRL files at hand (RFC 5280 sections 5 and 6.3). Nothing is fetched, OCSP is not asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from tasks.trust.errors import Refused, TrustBroken, in_short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

_KNOWN: Final = {x509.CRLNumber.oid, x509.DeltaCRLIndicator.oid, x509.AuthorityKeyIdentifier.oid}


@dataclass(frozen=True, slots=True)
class Revocations:
    """CRLs, base and delta, of any number of issuers."""

    crls: tuple[x509.CertificateRevocationList, ...] = field(default=(), repr=False)

    @classmethod
    def from_files(cls, contents: Iterable[bytes]) -> Revocations:
        """PEM or DER. Raises `TrustBroken`."""
        return cls(tuple(_load(content) for content in contents))

    def check(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """Every certificate below the root. Raises `Refused` for a revoked one and where it is not known."""
        for certificate, issuer in pairwise(chain):
            self._check_one(certificate, issuer, now)

    def _check_one(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
        of_issuer = [crl for crl in self.crls if _usable(crl, issuer)]
        bases = [crl for crl in of_issuer if not _is_delta(crl)]
        if not bases:
            if advertises(certificate):
                raise Refused("revocation is unknown: there is no CRL file of its issuer")
            return
        base = max(bases, key=lambda crl: crl.last_update_utc)
        deltas = [crl for crl in of_issuer if _is_delta(crl) and _continues(crl, base)]
        newest = max([base, *deltas], key=lambda crl: crl.last_update_utc)
        if newest.next_update_utc is None or not newest.last_update_utc <= now <= newest.next_update_utc:
            raise Refused("revocation is unknown: the CRL file of its issuer is out of date")
        if _revoked(certificate.serial_number, [base, *deltas]):
            raise Refused("a certificate of its chain has been revoked")


def advertises(certificate: x509.Certificate) -> bool:
    """Whether the certificate says where its revocation could be asked for."""
    for kind in (x509.CRLDistributionPoints, x509.FreshestCRL):
        if _has(certificate.extensions, kind):
            return True
    if not _has(certificate.extensions, x509.AuthorityInformationAccess):
        return False
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    return any(each.access_method == AuthorityInformationAccessOID.OCSP for each in access)


def _load(content: bytes) -> x509.CertificateRevocationList:
    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_crl(content)
        return x509.load_der_x509_crl(content)
    except ValueError as error:
        raise TrustBroken(f"not a CRL ({in_short(error)})") from error


def _usable(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """By this issuer, and with nothing critical that we do not know (partial and indirect CRLs)."""
    if crl.issuer != issuer.subject:
        return False
    if any(extension.critical and extension.oid not in _KNOWN for extension in crl.extensions):
        return False
    key: Any = issuer.public_key()  # of any kind; one that cannot sign is refused with TypeError
    return crl.is_signature_valid(key)


def _is_delta(crl: x509.CertificateRevocationList) -> bool:
    return _has(crl.extensions, x509.DeltaCRLIndicator)


def _continues(delta: x509.CertificateRevocationList, base: x509.CertificateRevocationList) -> bool:
    if not _has(base.extensions, x509.CRLNumber) or not _has(delta.extensions, x509.CRLNumber):
        return False
    number = base.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    since = delta.extensions.get_extension_for_class(x509.DeltaCRLIndicator).value.crl_number
    own = delta.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    return since <= number < own


def _revoked(serial: int, crls: Sequence[x509.CertificateRevocationList]) -> bool:
    revoked = False
    for crl in sorted(crls, key=lambda crl: crl.last_update_utc):
        entry = crl.get_revoked_certificate_by_serial_number(serial)
        if entry is not None:
            revoked = not _taken_back(entry)
    return revoked


def _taken_back(entry: x509.RevokedCertificate) -> bool:
    if not _has(entry.extensions, x509.CRLReason):
        return False
    return (
        entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        is x509.ReasonFlags.remove_from_crl
    )


def _has(extensions: x509.Extensions, kind: type[x509.ExtensionType]) -> bool:
    try:
        extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return False
    return True
