"""One signature against one policy: for which authorities it counts, and why not for the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.trust.candidates import AttestationLayer, CosignLayer, NotationSignature, SigstoreBundle, Unusable
from tasks.trust.errors import Refused, refusing
from tasks.trust.verdict import FoundSignature

if TYPE_CHECKING:
    from datetime import datetime

    from tasks.trust.candidates import Candidate, SigningTarget
    from tasks.trust.policy import Policy, RequiredAttestation
    from tasks.trust.verdict import Evidence

_FAMILY: dict[type[Candidate], str] = {
    SigstoreBundle: "bundle",
    CosignLayer: "legacy",
    AttestationLayer: "legacy",
    NotationSignature: "notation",
}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else a judgement depends on. `reference` is `host/repository:tag`, "" where it is not known."""

    image: SigningTarget
    now: datetime
    reference: str = ""


@dataclass(slots=True)
class Weighed:
    """`signed` and `attested` are pairs (authority, signer); `attested` by the number of the requirement."""

    found: FoundSignature
    signed: list[tuple[str, str]] = field(default_factory=list)
    attested: dict[int, list[tuple[str, str]]] = field(default_factory=dict)


def weigh(candidate: Candidate, policy: Policy, around: Circumstances) -> Weighed:
    """Never raises: what cannot be read does not count, and the reason is kept."""
    if isinstance(candidate, Unusable):
        return Weighed(FoundSignature(candidate.format, candidate.where, reasons=(candidate.reason,)))
    weighed = Weighed(FoundSignature(candidate.format, candidate.where))
    reasons, counted = [], []
    evidence: Evidence | None = None
    for authority in policy.authorities:
        if _FAMILY[type(candidate)] not in authority.formats:
            continue
        try:
            with refusing("it cannot be read"):
                evidence = authority.check(candidate, around.image)
                _count(weighed, authority.name, evidence, policy, around)
            counted.append(authority.name)
        except Refused as error:
            reasons.append(f"{authority.name}: {error}")
    if not counted and not reasons:
        reasons.append("no authority of the policy uses this format")
    weighed.found = _found(candidate, evidence, tuple(counted), tuple(reasons))
    return weighed


def _found(
    candidate: Candidate, evidence: Evidence | None, counted: tuple[str, ...], reasons: tuple[str, ...]
) -> FoundSignature:
    if evidence is None:
        return FoundSignature(candidate.format, candidate.where, counted, reasons)
    return FoundSignature(
        "attestation" if evidence.predicate_type and candidate.format == "bundle" else candidate.format,
        candidate.where,
        counted,
        reasons,
        evidence.who,
        evidence.issuer,
        evidence.when,
        evidence.log_index,
        evidence.predicate_type,
        evidence.notes,
    )


def _count(
    weighed: Weighed, authority: str, evidence: Evidence, policy: Policy, around: Circumstances
) -> None:
    """Raises `Refused` when the evidence is of no use to the policy."""
    _check_age(evidence, policy, around)
    refusals = []
    pair = (authority, evidence.signer)
    for number, wanted in enumerate(policy.attestations):
        if wanted.predicate_type == evidence.predicate_type and authority in wanted.authorities:
            refusal = _condition(wanted, evidence, around)
            if refusal is None:
                weighed.attested.setdefault(number, []).append(pair)
            refusals.append(refusal)
    refusal = _as_signature(authority, evidence, policy, around)
    if refusal is None:
        weighed.signed.append(pair)
    refusals.append(refusal)
    if all(refusals):
        raise Refused("; ".join(dict.fromkeys(text for text in refusals if text)))


def _as_signature(authority: str, evidence: Evidence, policy: Policy, around: Circumstances) -> str | None:
    """Why it is no signature of the image; None: it is one.

    An attestation is not: else whoever may publish an SBOM could admit images (GHSA-w6c6-c85g-mmv6).
    """
    if not policy.may_sign(authority) or not policy.need:
        return "the policy asks this authority for attestations only"
    kind = evidence.predicate_type
    if kind is not None and kind not in policy.accept_predicates:
        return f"an attestation ({kind[:80]}) is not a signature"
    for key, value in policy.annotations.items():
        if evidence.annotations.get(key) != value:
            return f"the signed annotation {key!r} is not {value!r}"
    if policy.reference_rule is not None and evidence.docker_reference is not None:
        try:
            policy.reference_rule.check(evidence.docker_reference, around.reference)
        except Refused as error:
            return str(error)
    return None


def _condition(wanted: RequiredAttestation, evidence: Evidence, around: Circumstances) -> str | None:
    if wanted.condition is None:
        return None
    statement = evidence.statement or {}
    holds, why = wanted.condition.judge(
        {
            "statement": statement,
            "predicate": statement.get("predicate"),
            "subject_digest": str(around.image.digest),
            "identity": evidence.who,
            "issuer": evidence.issuer,
        }
    )
    return None if holds else why


def _check_age(evidence: Evidence, policy: Policy, around: Circumstances) -> None:
    """Against the time that a log or timestamp authority vouches for; without one the age is unknown."""
    if policy.min_age is None:
        return
    if evidence.when is None:
        raise Refused("nothing vouches for its time, and the policy asks for a minimum age")
    age = (around.now - evidence.when).total_seconds()
    if age < policy.min_age:
        raise Refused(f"signed {age / 3600:.1f} h ago; the policy asks for {policy.min_age / 3600:.1f} h")
