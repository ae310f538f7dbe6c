"""sigstore-python, made to take what cosign takes and sigstore-python 4.5 refuses.

Three narrow additions; every other check is the library's:
- entries with a signed entry timestamp (SET) and no inclusion proof: all of cosign's legacy annotations
  (cosign, SIGNATURE_SPEC.md "Properties": `bundle`);
- log entries of kind `intoto`: attestations of cosign 1 and 2;
- windows of logs and CAs hold for the time of signing, not only "has begun by now".

It reaches into private names (`_inner`, `_validate`, `_verify`, `_establish_time`, `_verify_chain_at_time`),
so sigstore is pinned to 4.5.*, and test_sigstore_adapter.py notices when they change.
"""

# ruff: noqa: SLF001 - private names of sigstore, for the reasons above
from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from cryptography.hazmat.primitives.serialization import Encoding
from sigstore import dsse
from sigstore._internal.timestamp import TimestampSource, TimestampVerificationResult
from sigstore._internal.trust import KeyringPurpose
from sigstore.errors import VerificationError
from sigstore.models import Bundle, InvalidBundle, TransparencyLogEntry
from sigstore.verify import Verifier
from sigstore_models import intoto
from sigstore_models.bundle import v1 as bundle_v1
from sigstore_models.common import v1 as common_v1
from sigstore_models.rekor import v1 as rekor_v1

from tasks.trust.formats.dsse import DsseEnvelope
from tasks.trust.formats.log_body import Signed, match_body
from tasks.trust.formats.texts import expect, json_object, unbase64, unhex

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import Certificate
    from sigstore._internal.trust import RekorKeyring
    from sigstore.verify.policy import VerificationPolicy

    from tasks.trust.sigstore.root import SigstoreRoot

_INTOTO = {("intoto", "0.0.1"), ("intoto", "0.0.2")}


@dataclass(frozen=True, slots=True)
class RekorAnnotation:
    """cosign's `dev.sigstore.cosign/bundle`: a log entry and the log's promise to include it."""

    body: bytes
    integrated_time: int
    log_index: int
    log_id: bytes
    promise: str  # base64

    @classmethod
    def parse(cls, text: str) -> RekorAnnotation:
        """Raises `Refused`."""
        document = json_object(text, "the Rekor annotation")
        payload = expect(document.get("Payload"), dict, "the Rekor annotation's Payload")
        promise = document.get("SignedEntryTimestamp")
        unbase64(promise, "the SignedEntryTimestamp")
        return cls(
            body=unbase64(payload.get("body"), "the log entry"),
            integrated_time=expect(payload.get("integratedTime"), int, "integratedTime"),
            log_index=expect(payload.get("logIndex"), int, "logIndex"),
            log_id=unhex(payload.get("logID"), "logID"),
            promise=cast("str", promise),
        )

    @property
    def when(self) -> datetime:
        return datetime.fromtimestamp(self.integrated_time, UTC)

    def entry(self) -> SetOnlyEntry:
        """As the library's own type; `model_construct`, because its model wants an inclusion proof."""
        body = json_object(self.body, "the log entry")
        inner = rekor_v1.TransparencyLogEntry.model_construct(
            log_index=self.log_index,
            log_id=common_v1.LogId(key_id=base64.b64encode(self.log_id)),
            kind_version=rekor_v1.KindVersion(kind=body["kind"], version=body["apiVersion"]),
            integrated_time=self.integrated_time,
            inclusion_promise=rekor_v1.InclusionPromise(signed_entry_timestamp=self.promise.encode()),
            inclusion_proof=cast("rekor_v1.InclusionProof", None),
            canonicalized_body=self.body,
        )
        return SetOnlyEntry(inner)


class SetOnlyEntry(TransparencyLogEntry):
    """An entry that the log has promised to include: what cosign accepts as proof."""

    def _validate(self) -> None:
        if not (self._inner.inclusion_promise and self._inner.integrated_time):
            raise InvalidBundle("an entry without inclusion proof needs a promise and a time")

    def _verify(self, keyring: RekorKeyring) -> None:
        self._verify_set(keyring)


class CheckedBundle(Bundle):
    """A bundle that remembers which times were verified for it, and its envelope's own text if known."""

    times: tuple[datetime, ...] = ()
    raw_envelope: bytes | None = None


@dataclass(frozen=True, slots=True)
class LegacyParts:
    """What a layer of a `.sig` or `.att` manifest holds; exactly one of `signature` and `envelope`."""

    certificate: Certificate
    rekor: RekorAnnotation
    signature: bytes | None = None
    envelope: bytes | None = None
    timestamp: bytes | None = field(default=None, repr=False)

    def bundle(self) -> CheckedBundle:
        """A v0.1 bundle with the same content; the library's parser is not asked, its verifier is."""
        entry = self.rekor.entry()
        bundle = object.__new__(CheckedBundle)
        bundle._inner = bundle_v1.Bundle.model_construct(
            media_type=Bundle.BundleType.BUNDLE_0_1.value,
            verification_material=self._material(entry),
            message_signature=None if self.signature is None else _message_signature(self.signature),
            dsse_envelope=None if self.envelope is None else intoto.Envelope.from_json(self.envelope),
        )
        bundle._signing_certificate = self.certificate
        bundle._log_entry = entry
        bundle.raw_envelope = self.envelope
        return bundle

    def _material(self, entry: SetOnlyEntry) -> bundle_v1.VerificationMaterial:
        certificate = base64.b64encode(self.certificate.public_bytes(Encoding.DER))
        return bundle_v1.VerificationMaterial.model_construct(
            certificate=common_v1.X509Certificate(raw_bytes=certificate),
            x509_certificate_chain=None,
            public_key=None,
            tlog_entries=[entry._inner],
            timestamp_verification_data=None if self.timestamp is None else _timestamps(self.timestamp),
        )


def verify_entry(entry: TransparencyLogEntry, root: SigstoreRoot) -> None:
    """Proof, checkpoint and promise, as far as the entry has them. Raises what the library raises."""
    entry._verify(root.root.rekor_keyring(KeyringPurpose.VERIFY))


def proven_entry(content: bytes, root: SigstoreRoot) -> tuple[bytes, bytes, datetime | None, int]:
    """Body, log id, promised time (None: Rekor v2 promises none) and index of a bundle's log entry.

    Raises what the library raises.
    """
    inner = rekor_v1.TransparencyLogEntry.from_json(content)
    _check_kind(inner)
    verify_entry(TransparencyLogEntry(inner), root)
    when = datetime.fromtimestamp(inner.integrated_time or 0, UTC) if inner.inclusion_promise else None
    return inner.canonicalized_body, bytes(inner.log_id.key_id), when, proven_index(inner)


def proven_index(inner: rekor_v1.TransparencyLogEntry) -> int:
    """The promise covers the one in the entry; without promise it is the one of the proof that is proven."""
    return inner.log_index if inner.inclusion_promise else inner.inclusion_proof.log_index


def _message_signature(signature: bytes) -> common_v1.MessageSignature:
    return common_v1.MessageSignature(signature=base64.b64encode(signature))


def _timestamps(response: bytes) -> bundle_v1.TimestampVerificationData:
    one = common_v1.RFC3161SignedTimestamp(signed_timestamp=base64.b64encode(response))
    return bundle_v1.TimestampVerificationData(rfc3161_timestamps=[one])


class AnyCertificate:
    """A policy of the library that leaves the identity to us: each authority looks at it by itself."""

    def verify(self, cert: Certificate) -> None:
        """Accepts."""


class CheckingVerifier(Verifier):
    """The library's verifier with the three additions of the module's docstring."""

    def _establish_time(self, bundle: Bundle) -> list[TimestampVerificationResult]:
        if _kind(bundle) in _INTOTO:
            found = self._times_beside_intoto(bundle)
        else:
            found = super()._establish_time(bundle)
        cast("CheckedBundle", bundle).times = tuple(result.time for result in found)
        return found

    def _times_beside_intoto(self, bundle: Bundle) -> list[TimestampVerificationResult]:
        """As the library does for the other kinds of Rekor v1."""
        inner = bundle.log_entry._inner
        found = []
        if bundle.verification_material.timestamp_verification_data:
            found = self._verify_timestamp_authority(bundle)
        if inner.integrated_time and inner.inclusion_promise:
            when = datetime.fromtimestamp(inner.integrated_time, UTC)
            found.append(TimestampVerificationResult(TimestampSource.TRANSPARENCY_SERVICE, when))
        return found

    def _verify_chain_at_time(
        self, certificate: Certificate, timestamp_result: TimestampVerificationResult
    ) -> list[Certificate]:
        chain = super()._verify_chain_at_time(certificate, timestamp_result)
        if not self._in_use(chain[0], timestamp_result.time):
            raise VerificationError("the certificate's CA was not in use when the signature was made")
        return chain

    def _in_use(self, issuer: Certificate, when: datetime) -> bool:
        for authority in self._trusted_root._inner.certificate_authorities:
            window, ders = authority.valid_for, [cert.raw_bytes for cert in authority.cert_chain.certificates]
            if issuer.public_bytes(Encoding.DER) in ders:
                end = window.end
                if window.start <= when and (end is None or when <= end):
                    return True
        return False

    def verify_dsse(self, bundle: Bundle, policy: VerificationPolicy) -> tuple[str, bytes]:
        """As the library's; in addition for `intoto` entries."""
        if _kind(bundle) not in _INTOTO:
            return super().verify_dsse(bundle, policy)
        self._verify_common_signing_cert(bundle, policy)
        envelope = bundle._dsse_envelope
        if envelope is None:
            raise VerificationError("an intoto log entry needs a DSSE envelope")
        key = cast("ec.EllipticCurvePublicKey", bundle.signing_certificate.public_key())
        payload = dsse._verify(key, envelope)
        _match_intoto(cast("CheckedBundle", bundle), envelope, payload)
        return envelope._inner.payload_type, payload


def _match_intoto(bundle: CheckedBundle, envelope: dsse.Envelope, payload: bytes) -> None:
    ours = DsseEnvelope(envelope._inner.payload_type, payload, envelope.signature)
    signed = Signed(
        signature=envelope.signature,
        verifier=bundle.signing_certificate.public_bytes(Encoding.DER),
        sha256=b"",
        envelope=ours,
        raw_envelope=bundle.raw_envelope,
    )
    match_body(bundle.log_entry._inner.canonicalized_body, signed)


def _kind(bundle: Bundle) -> tuple[Any, Any]:
    return _check_kind(bundle.log_entry._inner)


def _check_kind(inner: rekor_v1.TransparencyLogEntry) -> tuple[Any, Any]:
    """What the entry's body says; what stands beside it unsigned has to agree."""
    body = json_object(inner.canonicalized_body, "the log entry")
    said = (inner.kind_version.kind, inner.kind_version.version)
    if said != (body.get("kind"), body.get("apiVersion")):
        raise VerificationError("the log entry is not of the kind that it is announced as")
    if inner.inclusion_promise and not inner.integrated_time:
        raise VerificationError("the log's promise has no time")  # the library would not check it then
    _check_size(inner.inclusion_proof)
    return said


def _check_size(proof: rekor_v1.InclusionProof | None) -> None:
    """The proof is for the tree that the checkpoint signs; the library compares the root hashes alone."""
    if proof is None or proof.checkpoint is None:
        return
    lines = proof.checkpoint.envelope.split("\n", 2)
    if len(lines) < 3 or lines[1] != str(proof.tree_size):
        raise VerificationError("the inclusion proof is for a tree of another size than the checkpoint's")
