"""Keys, certificates and names that a profile trusts, read and checked while it is loaded.

`cryptography` and sigstore are imported only when a profile names something of theirs. What is returned is
what was checked: files are read once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from profiles.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.x509 import Certificate

    PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_LARGEST: Final = 4 * 2**20
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_SMALLEST_RSA: Final = 2048
_KEY_KINDS: Final = "ECDSA on P-256, P-384 or P-521, RSA of 2048 bits or more, or Ed25519"
_SUBJECT: Final = "x509.subject:"
# RFC 7468 section 2: the label says what is between the lines.
_PEM_BLOCK: Final = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9 ]+)-----.*?-----END (?P=label)-----\n?", re.DOTALL
)
_SPACE: Final = re.compile(r"(?<!\\)([,+])\s+")


def read_file(path: Path) -> bytes:
    """Raises `Refusal`."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise Refusal(f"{path} cannot be read ({error.strerror})", "name a file that is there") from error
    if len(content) > _LARGEST:
        raise Refusal(f"{path} has more than {_LARGEST} bytes", "name the file that is meant")
    return content


def read_public_keys(content: bytes) -> tuple[PublicKey, ...]:
    """All keys of a PEM text, each once: two stand in it while one replaces the other. Raises `Refusal`."""
    blocks = list(_PEM_BLOCK.finditer(content))
    for block in blocks:
        _refuse_what_is_no_public_key(block["label"].decode())
    if not blocks:
        raise Refusal("not a public key in PEM", "write '-----BEGIN PUBLIC KEY-----' and so on")
    keys = [read_public_key(block[0]) for block in blocks]
    return tuple({key_in_der(key): key for key in keys}.values())


def _refuse_what_is_no_public_key(label: str) -> None:
    """A private key in a profile is a mistake that its owner has to hear of."""
    if "PRIVATE KEY" in label:
        raise Refusal(
            "a private key, which signs; a profile needs the public one",
            "write what 'cosign public-key --key FILE' or 'openssl pkey -in FILE -pubout' prints",
        )
    if label == "CERTIFICATE":
        raise Refusal(
            "a certificate, not a public key",
            "write what 'openssl x509 -pubkey -noout -in FILE' prints, or a signer of type x509",
        )


def read_public_key(content: bytes) -> PublicKey:
    """One, from PEM. Raises `Refusal`."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(content)
    except Exception as error:
        raise Refusal("not a public key in PEM", "write '-----BEGIN PUBLIC KEY-----' and so on") from error
    return usable_key(key)


def usable_key(key: Any) -> PublicKey:
    """`key`, if it is of a kind and size that signatures are verified with. Raises `Refusal`."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _SMALLEST_RSA:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    raise Refusal("a key of a kind or size that is not accepted", f"expected {_KEY_KINDS}")


def read_certificates(path: Path) -> tuple[Certificate, ...]:
    """PEM (one or several) or DER. Raises `Refusal`."""
    from cryptography import x509

    content = read_file(path)
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            return tuple(x509.load_pem_x509_certificates(content))
        return (x509.load_der_x509_certificate(content),)
    except ValueError as error:
        raise Refusal(f"{path} holds no certificate", "name a file with certificates, PEM or DER") from error


def key_in_der(key: PublicKey) -> bytes:
    """The SubjectPublicKeyInfo: the same for one key in PEM with other line breaks."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def certificates_in_der(certificates: Iterable[Certificate]) -> tuple[bytes, ...]:
    from cryptography.hazmat.primitives.serialization import Encoding

    return tuple(each.public_bytes(Encoding.DER) for each in certificates)


def check_revocation_list(content: bytes, path: Path) -> None:
    """Raises `Refusal`."""
    from cryptography import x509

    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            x509.load_pem_x509_crl(content)
        else:
            x509.load_der_x509_crl(content)
    except ValueError as error:
        raise Refusal(f"{path} is no revocation list", "name a CRL file, PEM or DER") from error


def check_trusted_root(content: bytes, path: Path) -> None:
    """Whether it has the look of a trusted_root.json; sigstore's own model is asked when it is used."""
    import json

    try:
        document = json.loads(content)
        document = document.get("trustedRoot", document)
        found = [
            key for key in ("tlogs", "certificateAuthorities", "timestampAuthorities") if document.get(key)
        ]
    except (ValueError, AttributeError, RecursionError):
        found = []
    if not found:
        raise Refusal(
            f"{path} is no Sigstore trust root", "name a trusted_root.json ('cosign trusted-root create')"
        )


def read_subject(text: str) -> frozenset[tuple[str, str]]:
    """A trusted identity of the Notary Project as pairs (object identifier, value). Raises `Refusal`."""
    from cryptography import x509

    example = "write 'x509.subject: C=US, ST=WA, O=acme', or '*' alone"
    if not text.startswith(_SUBJECT):
        raise Refusal(f"{text!r} is no identity", example)
    try:
        name = x509.Name.from_rfc4514_string(_SPACE.sub(r"\1", text.removeprefix(_SUBJECT).strip()))
    except ValueError as error:
        raise Refusal(f"{text!r} is no distinguished name", example) from error
    pairs = [(attribute.oid.dotted_string, str(attribute.value)) for attribute in name]
    oids = [oid for oid, _ in pairs]
    if len(set(oids)) != len(oids) or not _required_oids() <= set(oids):
        raise Refusal(f"{text!r} needs at least C, ST and O, and each name once", example)
    return frozenset(pairs)


def _required_oids() -> set[str]:
    from cryptography.x509.oid import NameOID

    names = (NameOID.COUNTRY_NAME, NameOID.STATE_OR_PROVINCE_NAME, NameOID.ORGANIZATION_NAME)
    return {name.dotted_string for name in names}
