"""RFC 3161 timestamps in Notary Project signatures: TimeStampTokens over the signature's bytes.

rfc3161-client verifies signature, imprint and chain. It leaves out what RFC 3161 and the Notary Project
also ask for: that the certificate is for nothing but timestamps, that the token names its certificate
(ESS, RFC 5035), and accuracy. It also takes strict DER only, which some authorities do not write.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from asn1crypto import cms, tsp
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from rfc3161_client import VerifierBuilder, decode_timestamp_response

from tasks.trust.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST = 256 * 1024
_ESS_HASHES = {"sha256", "sha384", "sha512"}


@dataclass(frozen=True, slots=True)
class Moment:
    """When the authority saw the signature, as precisely as it says."""

    earliest: datetime
    latest: datetime


def verify_token(token: bytes, message: bytes, roots: Sequence[x509.Certificate]) -> Moment:
    """Raises `Refused`, or what the libraries raise.

    Only `roots` are passed to rfc3161-client: it takes each added intermediate for a trust anchor. The
    token's own intermediates are used for path building anyway (RFC 5652, 5.1: `certificates`).
    """
    if len(token) > _LARGEST:
        raise Refused("the timestamp is too large")
    content = cms.ContentInfo.load(token, strict=True)
    if content["content_type"].native != "signed_data":
        raise Refused("the timestamp is no signed data")
    response = decode_timestamp_response(_response(content))
    VerifierBuilder(roots=list(roots), intermediates=[]).build().verify_message(response, message)
    signed = content["content"]
    _check_signer(signed)
    return _moment(signed["encap_content_info"]["content"].parsed)


def _response(token: Any) -> bytes:
    """A TimeStampResp around it, its certificates in DER's order: that set is not signed (RFC 5652 5.1)."""
    signed = token["content"]
    ordered = sorted((certificate.dump() for certificate in signed["certificates"]), key=bytes)
    signed["certificates"] = cms.CertificateSet([cms.CertificateChoices.load(der) for der in ordered])
    whole = cms.ContentInfo({"content_type": "signed_data", "content": signed})
    response: bytes = tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": whole}).dump()
    return response


def _check_signer(signed: Any) -> None:
    if len(signed["signer_infos"]) != 1:
        raise Refused("the timestamp has to have one signer")
    info = signed["signer_infos"][0]
    if info["version"].native != "v1":  # RFC 5652 section 5.3, for certificates named by issuer and number
        raise Refused("the timestamp's signer is of an unknown version")
    der = _certificate(signed, info["sid"])
    certificate = x509.load_der_x509_certificate(der)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    if not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise Refused("the timestamp's certificate is not for timestamps alone")
    _check_ess(info, der)


def _certificate(signed: Any, sid: Any) -> bytes:
    if sid.name != "issuer_and_serial_number":
        raise Refused("the timestamp does not name its certificate by issuer and number")
    wanted = sid.chosen
    for choice in signed["certificates"]:
        found = choice.chosen
        if found.serial_number == wanted["serial_number"].native and found.issuer == wanted["issuer"]:
            der: bytes = found.dump()
            return der
    raise Refused("the timestamp comes without its certificate")


def _check_ess(info: Any, der: bytes) -> None:
    """The signed attribute has to name the certificate, or another one with the same key could stand in."""
    for attribute in info["signed_attrs"]:
        if attribute["type"].native == "signing_certificate_v2":
            first = attribute["values"][0]["certs"][0]
            name = first["hash_algorithm"]["algorithm"].native
            if name in _ESS_HASHES and first["cert_hash"].native == hashlib.new(name, der).digest():
                return
            raise Refused("the timestamp names another certificate")
    raise Refused("the timestamp does not say which certificate signed it")


def _moment(info: Any) -> Moment:
    when = info["gen_time"].native
    accuracy = info["accuracy"].native or {}
    around = timedelta(
        seconds=accuracy.get("seconds") or 0,
        milliseconds=accuracy.get("millis") or 0,
        microseconds=accuracy.get("micros") or 0,
    )
    return Moment(when - around, when + around)
