"""A certificate authority for tests: server and client certificates that live for a day."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class KeyPair:
    """PEM files: a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; `cert` is what others are to trust."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self._folder, self._name = folder, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        made = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        self.cert = folder / "ca.crt"
        self.cert.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def server(self, *, address: str = "127.0.0.1", names: Iterable[str] = ()) -> KeyPair:
        """For a server at an IP address, and under these names."""
        known: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(address))]
        known += map(x509.DNSName, names)
        return self._issue("server", x509.SubjectAlternativeName(known), ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, name: str = "client") -> KeyPair:
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        return self._issue(name, names, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(self, name: str, names: x509.SubjectAlternativeName, usage: x509.ObjectIdentifier) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key).add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        pair = KeyPair(self._folder / f"{name}.cert", self._folder / f"{name}.key")
        pair.cert.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
