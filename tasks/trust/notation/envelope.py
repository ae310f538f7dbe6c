"""The two envelopes, JWS and COSE, read to one form and their signature checked (integrity).

By hand, with `cryptography` for the arithmetic: the libraries that were tried ignore `crit`, or a header
`alg` that is not the key's, or trailing bytes. An unknown `crit` has to be refused (RFC 7515, 4.1.11;
RFC 9052, 3.1).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from tasks.trust.errors import Refused
from tasks.trust.formats.texts import expect, json_object, unbase64, unbase64url

PAYLOAD_TYPE: Final = "application/vnd.cncf.notary.payload.v1+json"
JWS: Final = "application/jose+json"
COSE: Final = "application/cose"
_N: Final = "io.cncf.notary."
_SCHEME, _EXPIRY = f"{_N}signingScheme", f"{_N}expiry"
_TIMES: Final = {
    "notary.x509": f"{_N}signingTime",
    "notary.x509.signingAuthority": f"{_N}authenticSigningTime",
}
AUTHORITY_SCHEME: Final = "notary.x509.signingAuthority"
_MOST_CERTIFICATES: Final = 10
# The leaf's key dictates the algorithm; no other kinds and sizes exist ("Signature Algorithm Requirements").
_ALGORITHMS: Final[dict[tuple[str, int], tuple[str, int, hashes.HashAlgorithm]]] = {
    ("rsa", 2048): ("PS256", -37, hashes.SHA256()),
    ("rsa", 3072): ("PS384", -38, hashes.SHA384()),
    ("rsa", 4096): ("PS512", -39, hashes.SHA512()),
    ("ec", 256): ("ES256", -7, hashes.SHA256()),
    ("ec", 384): ("ES384", -35, hashes.SHA384()),
    ("ec", 521): ("ES512", -36, hashes.SHA512()),
}


@dataclass(frozen=True, slots=True)
class NotationEnvelope:
    """What an envelope says. `signing_time` is the signer's word, except in the scheme signingAuthority."""

    payload: bytes
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    chain: tuple[x509.Certificate, ...] = field(repr=False)
    algorithm: str | int
    scheme: str
    signing_time: datetime
    expiry: datetime | None = None
    timestamp: bytes | None = field(default=None, repr=False)

    def check_signature(self) -> None:
        """Raises `Refused`."""
        key = self.chain[0].public_key()
        names = _algorithm(key)
        if self.algorithm not in names[:2]:
            raise Refused("the envelope's algorithm is not the one of the certificate's key")
        try:
            _verify(key, self.signature, self.signed, names[2])
        except InvalidSignature:
            raise Refused("the signature is not by the certificate's key") from None


def read_envelope(media_type: str, content: bytes) -> NotationEnvelope:
    """Parse; nothing is verified. Raises `Refused`."""
    if media_type == JWS:
        return _read_jws(content)
    if media_type == COSE:
        return _read_cose(content)
    raise Refused(f"a layer of type {media_type[:80]} is no Notary Project envelope")


def _read_jws(content: bytes) -> NotationEnvelope:
    document = json_object(content, "the envelope")
    if set(document) != {"payload", "protected", "header", "signature"}:
        raise Refused("not a JWS in flattened JSON with exactly its four members")
    protected = json_object(
        unbase64url(document["protected"], "the protected header"), "the protected header"
    )
    header = expect(document["header"], dict, "the header")
    chain = [unbase64(text, "a certificate") for text in expect(header.get("x5c"), list, "x5c")]
    token = header.get(f"{_N}timestampSignature")
    return _envelope(
        {
            "alg": protected.get("alg"),
            "cty": protected.get("cty"),
            "crit": protected.get("crit"),
            "attributes": {key: _instant(value) for key, value in protected.items()},
        },
        payload=unbase64url(document["payload"], "the payload"),
        signed=f"{document['protected']}.{document['payload']}".encode(),
        signature=unbase64url(document["signature"], "the signature"),
        chain=chain,
        timestamp=None if token is None else unbase64(token, "the timestamp"),
    )


def _instant(value: Any) -> Any:
    """RFC 3339 texts as times; other texts as they are."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    return found if found.tzinfo else value


def _read_cose(content: bytes) -> NotationEnvelope:
    """COSE_Sign1_Tagged (RFC 9052 section 4.2)."""
    tagged = _cbor(content)
    if not isinstance(tagged, cbor2.CBORTag) or tagged.tag != 18:
        raise Refused("not a COSE_Sign1 message")
    # cbor2 6 makes tuples and frozen maps of what stands inside of a tag.
    raw, unprotected, payload, signature = expect(tagged.value, (list, tuple), "the message")
    protected = expect(_cbor(expect(raw, bytes, "the protected header")), dict, "the protected header")
    unprotected = expect(unprotected, (dict, cbor2.frozendict), "the unprotected header")
    # x5chain is one byte string where there is one certificate (RFC 9360 section 2).
    chain = unprotected.get(33, protected.get(33))
    return _envelope(
        {
            "alg": protected.get(1),
            "cty": protected.get(3),
            "crit": protected.get(2),
            "attributes": protected,
        },
        payload=expect(payload, bytes, "the payload"),
        signed=cbor2.dumps(["Signature1", raw, b"", payload]),
        signature=expect(signature, bytes, "the signature"),
        chain=[chain] if isinstance(chain, bytes) else list(expect(chain, (list, tuple), "x5chain")),
        timestamp=unprotected.get(f"{_N}timestampSignature"),
    )


def _cbor(content: bytes) -> Any:
    stream = io.BytesIO(content)
    found = cbor2.load(stream, max_depth=16, allow_duplicate_keys=False, allow_indefinite=False)
    if stream.read(1):
        raise Refused("bytes follow the message")
    return found


def _envelope(
    header: dict[str, Any],
    *,
    payload: bytes,
    signed: bytes,
    signature: bytes,
    chain: list[Any],
    timestamp: bytes | None,
) -> NotationEnvelope:
    attributes = header["attributes"]
    scheme = expect(attributes.get(_SCHEME), str, "the signing scheme")
    if header["cty"] != PAYLOAD_TYPE:
        raise Refused("the payload is not of the Notary Project's type")
    _check_critical(header["crit"], attributes, scheme)
    if not 0 < len(chain) <= _MOST_CERTIFICATES:
        raise Refused(f"it comes with {len(chain)} certificates")
    expiry = attributes.get(_EXPIRY)
    return NotationEnvelope(
        payload,
        signed,
        signature,
        tuple(x509.load_der_x509_certificate(expect(each, bytes, "a certificate")) for each in chain),
        header["alg"],
        scheme,
        expect(attributes.get(_TIMES[scheme]), datetime, "the signing time"),
        None if expiry is None else expect(expiry, datetime, "the expiry"),
        timestamp if timestamp is None else expect(timestamp, bytes, "the timestamp"),
    )


def _check_critical(critical: Any, attributes: dict[str, Any], scheme: str) -> None:
    """ "crit": what a verifier must understand, plugins included, which we do not run."""
    if scheme not in _TIMES:
        raise Refused(f"the signing scheme {scheme[:40]!r} is not known")
    listed = expect(critical, (list, tuple), "crit")
    needed = {_SCHEME} | ({_EXPIRY} if _EXPIRY in attributes else set())
    if scheme == AUTHORITY_SCHEME:
        needed.add(_TIMES[scheme])
    if len(listed) != len(set(listed)) or not needed <= set(listed):
        raise Refused("crit does not list what has to be critical")
    unknown = set(listed) - {_SCHEME, _EXPIRY, _TIMES[AUTHORITY_SCHEME]}
    if unknown:
        raise Refused(f"it needs {min(map(str, unknown))[:60]}, which is not supported")
    if any(key not in attributes for key in listed):
        raise Refused("crit lists what is not there")


def _algorithm(key: Any) -> tuple[str, int, hashes.HashAlgorithm]:
    kind = {True: "rsa", False: "ec"}[isinstance(key, rsa.RSAPublicKey)]
    if kind == "ec" and not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused("the certificate's key is neither RSA nor ECDSA")
    found = _ALGORITHMS.get((kind, key.key_size))
    if found is None:
        raise Refused(f"keys of {key.key_size} bits are not accepted")
    return found


def _verify(key: Any, signature: bytes, signed: bytes, algorithm: hashes.HashAlgorithm) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        key.verify(signature, signed, pss, algorithm)
        return
    width = (key.key_size + 7) // 8
    if len(signature) != 2 * width:
        raise Refused("the signature has the wrong length")
    r, s = int.from_bytes(signature[:width], "big"), int.from_bytes(signature[width:], "big")
    key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(algorithm))
