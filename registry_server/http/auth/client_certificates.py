"""Users by the client certificate that a trusted proxy has checked and passes on.

granian checks certificates of clients and hands none to the application, so a proxy in `trustedProxies`
has to: in `Client-Cert` (RFC 9440), as that has it or as nginx writes it (`$ssl_client_escaped_cert`). From
any other address the header means nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.x509.oid import NameOID

from registry_server.http.auth.oidc.claims import Person
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry_server.http.auth.certificate_options import Attribute, CertificateOptions

_HEADER = b"client-cert"
_NONE = (b"", b"::")  # what nginx and HAProxy write for a client without a certificate
_LONGEST = 32 * 1024  # bytes of the header
_LONGEST_NAME = 512  # characters of a user or group
# Extensions that are missing, or whose names cannot be read.
_UNREADABLE = (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError)
_GROUPS = {"Organization": NameOID.ORGANIZATION_NAME, "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME}


class CertificateRefused(MirrorflowError):
    """A certificate that names no user here, or a header that is none."""


class CertificateReader:
    """Finds the person in the headers of a request."""

    def __init__(self, options: CertificateOptions) -> None:
        self._options = options
        self._uri_pattern = re.compile(options.uri_pattern) if options.uri_pattern else None

    def person(self, headers: Iterable[tuple[bytes, bytes]]) -> Person | None:
        """None where the client has shown no certificate. Raises `CertificateRefused`."""
        found = [value for name, value in headers if name == _HEADER and value.strip() not in _NONE]
        if not found:
            return None
        if len(found) > 1 or len(found[0]) > _LONGEST:
            raise CertificateRefused("more than one Client-Cert header, or one of excessive length")
        certificate = read_certificate(found[0].strip())
        try:
            for attribute in self._options.attributes:
                if user := _usable(self._value(certificate, attribute)):
                    return Person(user, self._groups(certificate))
        except ValueError:  # its parts are read when they are asked for
            raise CertificateRefused("the certificate has a subject that cannot be read") from None
        raise CertificateRefused(f"the certificate has none of {', '.join(self._options.attributes)}")

    def _value(self, certificate: x509.Certificate, attribute: Attribute) -> str:
        options = self._options
        match attribute:
            case "CommonName":
                return _at(_names(certificate, NameOID.COMMON_NAME), 0)
            case "Subject":
                return certificate.subject.rfc4514_string()
            case "Email":
                return _at(_alternatives(certificate, x509.RFC822Name), options.email_index)
            case "DNSName":
                return _at(_alternatives(certificate, x509.DNSName), options.dns_index)
            case "URI":
                uri = _at(_alternatives(certificate, x509.UniformResourceIdentifier), options.uri_index)
                return self._of_uri(uri)

    def _of_uri(self, uri: str) -> str:
        if self._uri_pattern is None or len(uri) > _LONGEST_NAME:
            return uri
        match = self._uri_pattern.fullmatch(uri)
        if match is None:
            return ""
        return (match[1] if self._uri_pattern.groups else match[0]) or ""

    def _groups(self, certificate: x509.Certificate) -> frozenset[str]:
        wanted = _GROUPS.get(self._options.group_attribute)
        names = _names(certificate, wanted) if wanted else []
        return frozenset(filter(None, map(_usable, names)))


def read_certificate(value: bytes) -> x509.Certificate:
    """`:BASE64:` of DER (RFC 9440, 2.2), or PEM with percent encoding. Raises `CertificateRefused`."""
    try:
        if value.startswith(b":") and value.endswith(b":"):
            return x509.load_der_x509_certificate(base64.b64decode(value[1:-1], validate=True))
        return x509.load_pem_x509_certificate(unquote_to_bytes(value))
    except (ValueError, binascii.Error):
        raise CertificateRefused("the Client-Cert header has no certificate") from None


def _names(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> list[str]:
    found = [each.value for each in certificate.subject.get_attributes_for_oid(kind)]
    return [each for each in found if isinstance(each, str)]


def _alternatives(certificate: x509.Certificate, kind: Any) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return list(extension.value.get_values_for_type(kind))
    except _UNREADABLE:
        return []


def _at(found: Sequence[str], index: int) -> str:
    return found[index] if index < len(found) else ""


def _usable(name: str) -> str:
    """ "" for what cannot be the name of a user or group."""
    return name.strip() if len(name) <= _LONGEST_NAME and name.isprintable() else ""
