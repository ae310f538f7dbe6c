"""`mode: presence`, and zot's `onlySigned`: is there something signature-like? Nothing is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.trust.candidates import CosignLayer, NotationSignature, SigstoreBundle, Unusable
from tasks.trust.discovery import discover
from tasks.trust.errors import Refused, refusing
from tasks.trust.formats.dsse import read_statement
from tasks.trust.formats.signature_bundle import read_bundle
from tasks.trust.formats.simple_signing import read_claims, signature_of
from tasks.trust.verdict import FoundSignature, Verdict, VerdictOutcome

if TYPE_CHECKING:
    from tasks.trust.candidates import Candidate, SigningTarget
    from tasks.trust.discovery import Search
    from tasks.trust.policy import Policy
    from tasks.trust.sources import SignatureSource


def look(source: SignatureSource, search: Search, policy: Policy, image: SigningTarget) -> Verdict:
    """Whether one well-formed signature of an allowed format claims to be of this image."""
    seen = []
    for candidate in discover(source, search):
        reason = _why_not(candidate, policy, image)
        seen.append(FoundSignature(candidate.format, candidate.where, reasons=(reason,) if reason else ()))
        if not reason:
            return Verdict(VerdictOutcome.PRESENT, (), tuple(seen), policy.name, policy.fingerprint)
    reason = "nothing that looks like a signature of it" if seen else "it has no signature"
    return Verdict(VerdictOutcome.REFUSED, (reason,), tuple(seen), policy.name, policy.fingerprint)


def _why_not(candidate: Candidate, policy: Policy, image: SigningTarget) -> str:
    try:
        with refusing("it cannot be read"):
            _claims(candidate, policy, image)
    except Refused as error:
        return str(error)
    return ""


def _claims(candidate: Candidate, policy: Policy, image: SigningTarget) -> None:
    if isinstance(candidate, Unusable):
        raise Refused(candidate.reason)
    if isinstance(candidate, CosignLayer):
        read_claims(candidate.payload, image.digest)
        signature_of(candidate.annotations)
    elif isinstance(candidate, SigstoreBundle):
        _bundle(candidate.content, policy, image)
    elif isinstance(candidate, NotationSignature):
        from tasks.trust.notation.envelope import read_envelope
        from tasks.trust.notation.payload import check_target

        payload = read_envelope(candidate.media_type, candidate.content).payload
        check_target(payload, image, candidate.subject)
    else:
        raise Refused("an attestation is not a signature")


def _bundle(content: bytes, policy: Policy, image: SigningTarget) -> None:
    parts = read_bundle(content)
    if parts.envelope is None:
        if parts.claimed_digest != bytes.fromhex(image.digest.hex):
            raise Refused("the signature is of something else")
        return
    statement = read_statement(parts.envelope, image.digest)
    if statement.predicate_type not in policy.accept_predicates:
        raise Refused(f"an attestation ({statement.predicate_type[:80]}) is not a signature")
