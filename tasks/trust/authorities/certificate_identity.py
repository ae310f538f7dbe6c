"""Who a Fulcio certificate speaks for (fulcio docs/oid-info.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography import x509

from tasks.trust.errors import Refused

LONGEST_IDENTITY: Final = 2048
_FULCIO: Final = "1.3.6.1.4.1.57264.1"
_OTHER_NAME: Final = f"{_FULCIO}.7"  # user names of OIDC providers without e-mail addresses
# The names under which the profile asks for extensions, and the last part of their object identifier.
EXTENSIONS: Final = {
    "build_signer_uri": 9,
    "build_signer_digest": 10,
    "runner_environment": 11,
    "source_repository_uri": 12,
    "source_repository_digest": 13,
    "source_repository_ref": 14,
    "source_repository_identifier": 15,
    "source_repository_owner_uri": 16,
    "source_repository_owner_identifier": 17,
    "build_config_uri": 18,
    "build_config_digest": 19,
    "build_trigger": 20,
    "run_invocation_uri": 21,
    "source_repository_visibility": 22,
}
# Of Fulcio's first years: raw bytes, not DER.
OLD_EXTENSIONS: Final = {
    "github_workflow_trigger": 2,
    "github_workflow_sha": 3,
    "github_workflow_name": 4,
    "github_workflow_repository": 5,
    "github_workflow_ref": 6,
}


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """`subject` is the one name in the certificate; `extensions` by the names above."""

    subject: str
    issuer: str
    extensions: dict[str, str] = field(default_factory=dict)


def read_identity(certificate: x509.Certificate) -> CertificateIdentity:
    """Raises `Refused` for a certificate that does not speak for exactly one name and issuer."""
    return CertificateIdentity(_subject(certificate), _issuer(certificate), _extensions(certificate))


def _subject(certificate: x509.Certificate) -> str:
    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        raise Refused("the certificate names nobody") from None
    if len(names) != 1:
        raise Refused(f"the certificate has {len(names)} names; expected one")
    found = _text_of(names[0])
    if not found or len(found.encode()) > LONGEST_IDENTITY:
        raise Refused("the name in the certificate is empty or too long")
    return found


def _text_of(name: x509.GeneralName) -> str:
    if isinstance(name, x509.RFC822Name | x509.UniformResourceIdentifier):
        return name.value
    if isinstance(name, x509.OtherName) and name.type_id.dotted_string == _OTHER_NAME:
        return _utf8_string(name.value)
    raise Refused("the certificate's name is of a kind that is not known")


def _issuer(certificate: x509.Certificate) -> str:
    """The newer extension; where both are given they have to agree."""
    old, new = _raw(certificate, 1), _raw(certificate, 8)
    given = (_plain(old), None if new is None else _utf8_string(new))
    found = {value for value in given if value is not None}
    if len(found) != 1:
        raise Refused("the certificate names no issuer" if not found else "the certificate names two issuers")
    return found.pop()


def _extensions(certificate: x509.Certificate) -> dict[str, str]:
    found = {}
    for names, read in ((EXTENSIONS, _utf8_string), (OLD_EXTENSIONS, bytes.decode)):
        for name, number in names.items():
            value = _raw(certificate, number)
            if value is not None:
                found[name] = read(value)
    return found


def _plain(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _raw(certificate: x509.Certificate, number: int) -> bytes | None:
    try:
        extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(f"{_FULCIO}.{number}"))
    except x509.ExtensionNotFound:
        return None
    value = extension.value
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _utf8_string(der: bytes) -> str:
    """A DER UTF8String (X.690 section 8.23) of up to 64 KiB, whole and in its shortest form."""
    if len(der) < 2 or der[0] != 0x0C:
        raise Refused("an extension of the certificate is no text")
    width = der[1] - 0x80 if der[1] > 0x80 else 0
    start = 2 + width
    length = int.from_bytes(der[2:start], "big") if width else der[1]
    if width > 2 or len(der) != start + length:
        raise Refused("an extension of the certificate is no text")
    return der[start:].decode()
