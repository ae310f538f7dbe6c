"""Certificate chains as the Notary Project asks for them ("Certificate Requirements").

Walked by hand: certificates in the wild have no subject alternative name, which general verifiers want, and
every certificate of the chain is looked at, also beyond the first that a trust store knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from tasks.trust.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

_HONOURED: Final = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
}
_NOT_FOR_SIGNING: Final = {
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ExtendedKeyUsageOID.TIME_STAMPING,
    ExtendedKeyUsageOID.OCSP_SIGNING,
}
_Ext = TypeVar("_Ext", bound=x509.ExtensionType)


def check_chain(chain: Sequence[x509.Certificate]) -> None:
    """The rules that do not depend on the time: order, completeness, usages. Raises `Refused`."""
    leaf, *issuers = chain
    _check_leaf(leaf)
    for depth, issuer in enumerate(issuers):
        _check_issuer(issuer, depth)
    for certificate, issuer in zip(chain, [*issuers, chain[-1]], strict=True):
        _check_common(certificate)
        _issued(certificate, issuer)


def trusted(chain: Sequence[x509.Certificate], store: Collection[x509.Certificate]) -> x509.Certificate:
    """The first certificate of the chain that the store has. Raises `Refused`."""
    known = {certificate.public_bytes(Encoding.DER) for certificate in store}
    for certificate in chain:
        if certificate.public_bytes(Encoding.DER) in known:
            return certificate
    raise Refused("no certificate of its chain is in the trust store")


def check_validity(
    chain: Sequence[x509.Certificate], earliest: datetime, latest: datetime, what: str
) -> None:
    """Every certificate has to be valid all the time between. Raises `Refused`."""
    for certificate in chain:
        if earliest < certificate.not_valid_before_utc or latest > certificate.not_valid_after_utc:
            raise Refused(f"{what}: a certificate of the chain was not valid then ({_name(certificate)})")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception as error:
        raise Refused(f"the chain is broken at {_name(certificate)}, or ends without a root") from error


def _check_leaf(leaf: x509.Certificate) -> None:
    usage = _critical(leaf, x509.KeyUsage)
    forbidden = (
        *(usage.key_encipherment, usage.data_encipherment, usage.key_agreement),
        *(usage.key_cert_sign, usage.crl_sign),
    )
    if not usage.digital_signature or any(forbidden):
        raise Refused("the signing certificate is not for signatures alone")
    constraints = _find(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise Refused("the signing certificate is a CA's")
    extended = _find(leaf, x509.ExtendedKeyUsage)
    if extended is not None and _NOT_FOR_SIGNING & set(extended.value):
        raise Refused("the signing certificate is for something else")


def _check_issuer(issuer: x509.Certificate, depth: int) -> None:
    """`depth` intermediates stand between it and the leaf."""
    constraints = _critical(issuer, x509.BasicConstraints)
    if not constraints.ca or not _critical(issuer, x509.KeyUsage).key_cert_sign:
        raise Refused(f"{_name(issuer)} may not issue certificates")
    if constraints.path_length is not None and constraints.path_length < depth:
        raise Refused(f"{_name(issuer)} may not have that many CAs below it")


def _check_common(certificate: x509.Certificate) -> None:
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or algorithm.name in ("sha1", "md5"):
        raise Refused(f"{_name(certificate)} is signed with an algorithm that is not accepted")
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _HONOURED:  # RFC 5280 section 4.2
            raise Refused(f"{_name(certificate)} has a critical extension that is not known")


def _critical(certificate: x509.Certificate, kind: type[_Ext]) -> _Ext:
    found = _find(certificate, kind)
    if found is None or not found.critical:
        raise Refused(f"{_name(certificate)} has no critical {kind.__name__}")
    return found.value


def _find(certificate: x509.Certificate, kind: type[_Ext]) -> x509.Extension[_Ext] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:80]
