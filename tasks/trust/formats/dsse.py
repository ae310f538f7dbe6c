"""DSSE envelopes and the in-toto statements in them.

sigstore's own `Statement` refuses what cosign writes (no subject name; Statement/v0.1), so it is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.trust.errors import Refused
from tasks.trust.formats.texts import expect, json_object, unbase64

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest

IN_TOTO = "application/vnd.in-toto+json"
_STATEMENTS = frozenset({"https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"})
_MOST_SUBJECTS = 10_000


@dataclass(frozen=True, slots=True)
class DsseEnvelope:
    """One payload and its one signature."""

    payload_type: str
    payload: bytes
    signature: bytes

    @property
    def pae(self) -> bytes:
        """What is signed (DSSE v1.0.2, protocol.md "Signature Definition")."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)


def read_envelope(document: dict[str, Any]) -> DsseEnvelope:
    """Raises `Refused`. Several signatures are refused, as in every Sigstore client."""
    signatures = expect(document.get("signatures"), list, "the envelope's list of signatures")
    if len(signatures) != 1:
        raise Refused(f"the envelope has {len(signatures)} signatures; expected one")
    one = expect(signatures[0], dict, "the envelope's signature")
    return DsseEnvelope(
        expect(document.get("payloadType"), str, "the envelope's payloadType"),
        unbase64(document.get("payload"), "the envelope's payload"),
        unbase64(one.get("sig"), "the envelope's signature"),
    )


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement whose subject is the image."""

    predicate_type: str
    document: dict[str, Any]
    annotations: dict[str, Any]


def read_statement(envelope: DsseEnvelope, image: Digest) -> Statement:
    """The statement about `image`. Raises `Refused` when the envelope holds none."""
    if envelope.payload_type != IN_TOTO:
        raise Refused("the envelope holds no in-toto statement")
    document = json_object(envelope.payload, "the statement")
    if document.get("_type") not in _STATEMENTS:
        raise Refused("the statement is of an unknown type")
    predicate_type = expect(document.get("predicateType"), str, "predicateType")
    return Statement(predicate_type, document, _annotations(document, image))


def _annotations(document: dict[str, Any], image: Digest) -> dict[str, Any]:
    """Those of the subject that is the image."""
    subjects = expect(document.get("subject"), list, "the statement's list of subjects")
    for subject in subjects[:_MOST_SUBJECTS]:
        digests = expect(expect(subject, dict, "a subject").get("digest"), dict, "a subject's digest")
        if digests.get(image.algorithm) == image.hex:
            return dict(subject.get("annotations") or {})
    raise Refused("the statement is about another image")
